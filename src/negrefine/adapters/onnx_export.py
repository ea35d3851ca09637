"""A detector as one ONNX model, which scores without Python and torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from negrefine.adapters.onnx_description import KEY, ExportedScore, description
from negrefine.adapters.onnx_files import check_onnx, open_session
from negrefine.adapters.onnx_graph import ScoreGraph, traced
from negrefine.detectors.bundle import own_version
from negrefine.encoders.clip import CLIPEncoder
from negrefine.errors import EncoderError
from negrefine.files.writing import write_atomically

# A file of protocol buffers holds 2 GiB; the graph beside the weights takes far less than 16 MiB.
_MAX_WEIGHTS = 2**31 - 2**24
_TOLERANCE = 1e-4
_CHECKED_BATCHES = (1, 3)


def export_onnx(
    exported: ExportedScore,
    path: str | os.PathLike[str],
    *,
    stage: Callable[[str], object] = lambda _: None,
) -> int:
    """Write what `exported_score` returned as one ONNX file, atomically; return its bytes.

    Input `pixels`, float32 (batch, 3, h, w), are images prepared as the metadata says, whose
    `negrefine` is JSON. Outputs have one entry for each image: `scores` (float64), `class_index`
    (int64), `class_similarity` (float64) and, if there is a threshold, `is_in_distribution` (bool).
    onnxruntime must give the scores of the detector, or nothing is written. Equal detectors give
    equal bytes with the same versions of torch and onnx.

    Args:
        exported: Of `exported_score`; its detector may have been calibrated since.
        path: Ends in .onnx. Only a model that negrefine has exported is replaced.
        stage: Called with a sentence before each step that takes long.

    Raises:
        InputError: The file cannot be written, or the extra `onnx` is not installed.
        EncoderError: The image tower cannot be exported, or takes more than 2 GB.
    """
    target = check_onnx(path)
    graph = ScoreGraph(exported.detector).eval()
    stage("Tracing the image tower and the score.")
    model = _traced(graph, exported)
    _describe(model, exported)
    content: bytes = model.SerializeToString(deterministic=True)
    stage("Comparing the scores of onnxruntime with those of the detector.")
    _check_scores(content, exported)
    write_atomically(target, lambda temporary: temporary.write_bytes(content))
    return len(content)


def _pixels(exported: ExportedScore, n: int) -> np.ndarray:
    """Return n images of noise with about the mean and deviation of prepared ones."""
    encoder = exported.detector.encoder
    assert isinstance(encoder, CLIPEncoder)  # noqa: S101 - `exported_score`
    size = encoder.preprocessing.output_size
    assert size is not None  # noqa: S101 - load_encoder checks it
    return np.random.default_rng(n).normal(size=(n, 3, *size)).astype(np.float32)


def _traced(graph: ScoreGraph, exported: ExportedScore) -> Any:
    """Return the graph as a `ModelProto`."""
    name = exported.detector.encoder.name
    # With one image the batch would be taken for a constant.
    pixels = torch.from_numpy(_pixels(exported, 2))
    try:
        program = traced(graph, pixels, graph.head.output_names)
    except Exception as error:
        # The exporter raises classes of its own for each of its steps, with pages of text.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise EncoderError(
            f"torch cannot export the image tower of {name!r} or the score ({reason}): another "
            "encoder or a newer version of torch may do."
        ) from error
    weights = program.model.graph.initializers.values()
    n_bytes = sum(each.const_value.nbytes for each in weights)
    if n_bytes > _MAX_WEIGHTS:
        raise EncoderError(
            f"The weights of {name!r} take {n_bytes / 1e9:.1f} GB, and a single ONNX file holds "
            "2 GB: fit the detector with a smaller encoder."
        )
    return program.model_proto


def _describe(model: Any, exported: ExportedScore) -> None:
    """Take out where and with which source files the graph was made, and say what it is."""
    model.producer_name, model.producer_version = "negrefine", own_version()
    graphs = [model.graph, *model.functions]
    for each in graphs:
        for part in (each, *each.node, *each.value_info):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
    for each in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
    model.ClearField("metadata_props")
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, description(exported)


def _check_scores(content: bytes, exported: ExportedScore) -> None:
    """Raise EncoderError if onnxruntime computes something else than the detector."""
    session, detector = open_session(content), exported.detector
    encoder = detector.encoder
    assert isinstance(encoder, CLIPEncoder)  # noqa: S101 - `exported_score`
    for n in _CHECKED_BATCHES:
        pixels = _pixels(exported, n)
        scores = session.run(["scores"], {"pixels": pixels})[0]
        expected = detector.score_features(encoder.encode_pixels(list(pixels))[0])
        if not np.allclose(scores, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise EncoderError(
                f"The exported model of {encoder.name!r} gives scores that differ by "
                f"{np.abs(scores - expected).max():.2g} from those of the detector, so it was not "
                "written: try other versions of torch and onnxruntime."
            )
