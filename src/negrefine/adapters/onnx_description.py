"""What an exported model says about itself, as JSON in its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negrefine.adapters.onnx_files import FORMAT, FORMAT_VERSION
from negrefine.detectors.base import Detector
from negrefine.detectors.bundle import own_version
from negrefine.detectors.frozen import Frozen
from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.parameters import encode_parameter
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.errors import InputError

KEY = "negrefine"
"""The key of the JSON in `metadata_props`."""

_NO_MULTI_MATCH = (
    "S_MM is left out, because it needs the text tower for each image: the score is S_NegLabel "
    "alone, and a threshold of S_NegLabel + alpha S_MM is none of it."
)
_OUTPUTS = {
    "scores": "float64 (batch,), larger is more in-distribution",
    "class_index": "int64 (batch,), place in class_names of the most similar one",
    "class_similarity": "float64 (batch,), its cosine",
    "is_in_distribution": "bool (batch,), score >= threshold of the image",
}


@dataclass(frozen=True)
class ExportedScore:
    """What of a detector can be exported.

    Attributes:
        detector: The detector itself, or one that has only the exported part of its score;
            `calibrate` sets the threshold of this part.
        left_out: What is left out, as a sentence; None if nothing is.
        source: `identity()` of the detector that was given.
        tuned: What was tuned about it on a validation set, as a sentence; None if nothing was.
    """

    detector: Detector
    left_out: str | None
    source: str
    tuned: str | None = None


def exported_score(detector: Detector) -> ExportedScore:
    """Return what of a fitted detector can be exported.

    NegRefine's S_MM embeds a text for each image, so of NegRefine only S_NegLabel can be, as a
    detector without a threshold.

    Raises:
        InputError: The method scores patches, asks another model or is what a stream has left, or
            its encoder has no image tower that can be exported, is not on the CPU or not of dtype
            float32.
    """
    encoder, title = detector.encoder, detector.title or type(detector).__name__
    if not isinstance(encoder, CLIPEncoder):
        raise InputError(
            f"The encoder {encoder.name!r} is an object of its own, whose image tower cannot be "
            "exported: use one of load_encoder."
        )
    if encoder.device.type != "cpu" or str(encoder.dtype) != "torch.float32":
        raise InputError(
            f"The encoder {encoder.name!r} is on {encoder.device} with {encoder.dtype}, and what "
            "is exported is float32: load it with device='cpu' and dtype='float32'."
        )
    if detector.uses_patches:
        raise InputError(
            f"{title} cannot be exported, because it scores every patch of an image beside the "
            "image: export MCM, which is its score of the whole image."
        )
    if detector.image_parts:
        raise InputError(
            f"{title} cannot be exported, because another model looks at the images: export the "
            "detector that it was made from."
        )
    if isinstance(detector, Frozen):
        raise InputError(
            f"{title} cannot be exported, because it is what a stream has left: export the "
            "detector that the stream began with."
        )
    tuning = detector.tuning_ if isinstance(detector, NegRefine) else None
    tuned = None if tuning is None else str(tuning)
    if isinstance(detector, NegRefine) and detector.alpha != 0:
        part = detector.with_params(alpha=0.0)
        return ExportedScore(part, _NO_MULTI_MATCH, detector.identity(), tuned)
    return ExportedScore(detector, None, detector.identity(), tuned)


def description(exported: ExportedScore) -> str:
    """Return the JSON that goes into the metadata; equal detectors give equal text."""
    detector = exported.detector
    encoder = detector.encoder
    assert isinstance(encoder, CLIPEncoder)  # noqa: S101 - `exported_score`
    decides = detector.offset_ is not None
    # The folder of a model means nothing on another machine.
    path = Path(encoder.name)
    name = path.name if path.is_absolute() else encoder.name
    by_class = detector.class_offsets_
    parameters = {
        name: encode_parameter(value)
        for name, value in detector.get_params(deep=False).items()
        if name != "encoder"
    }
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "negrefine_version": own_version(),
        "method": detector.method,
        "title": detector.title,
        "paper": detector.paper,
        "parameters": parameters,
        "left_out": exported.left_out,
        "detector": exported.source,
        **({} if exported.tuned is None else {"tuned": exported.tuned}),
        "encoder": {"name": name, "fingerprint": encoder.fingerprint},
        "logit_scale": detector.logit_scale_,
        "logit_bias": encoder.logit_bias,
        "class_names": detector.class_names_,
        "n_negative_labels": None if detector.negatives_ is None else len(detector.negatives_.kept),
        "threshold": None if by_class is not None else detector.offset_,
        "thresholds_by_class": None if by_class is None else by_class.tolist(),
        "calibration": {"fpr": detector.fpr_, "delta": detector.delta_, "by": detector.by_},
        "preprocessing": prepared_how(encoder),
        "inputs": {"pixels": "float32 (batch, 3, height, width), red, green, blue"},
        "outputs": {
            name: text for name, text in _OUTPUTS.items() if decides or name != "is_in_distribution"
        },
    }
    return json.dumps(content, ensure_ascii=False)


def prepared_how(encoder: CLIPEncoder) -> dict[str, Any]:
    """Return everything that is done to an image, in the order in which it is done."""
    how = encoder.preprocessing
    return {
        "exif_orientation": encoder.exif_orientation,
        "background": encoder.background,
        "mode": "RGB",
        "resize": _resized_how(how),
        "interpolation": how.resample,
        "crop": how.crop,
        "crop_offset": "round((side - crop) / 2), half to even; -((crop - side) // 2) if smaller",
        "fill": how.fill,
        "rescale_factor": how.rescale_factor,
        "mean": how.mean,
        "std": how.std,
        "size": how.output_size,
    }


def _resized_how(how: Preprocessing) -> dict[str, Any] | None:
    """Return what size an image is resized to, by its height and width or by one side."""
    if how.resize is None:
        return None
    if not isinstance(how.resize, int):
        return {"height": how.resize[0], "width": how.resize[1]}
    if how.whole:
        return {"longer_side": how.resize, "other_side": "rounded, half to even, 1 or more"}
    return {"shorter_side": how.resize, "other_side": "truncated"}
