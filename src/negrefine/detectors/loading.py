"""From a saved directory back to a detector: `load_detector`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from negrefine.detectors.base import Detector
from negrefine.detectors.bundle import damaged, read_bundle
from negrefine.detectors.clipn import CLIPN
from negrefine.detectors.csp import CSP
from negrefine.detectors.glmcm import GLMCM
from negrefine.detectors.mcm import MCM
from negrefine.detectors.neglabel import NegLabel
from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.unsaved import Unsaved
from negrefine.encoders.base import Encoder
from negrefine.encoders.loading import load_encoder
from negrefine.errors import BundleError, EncoderError
from negrefine.labels.prompts import Prompts

DETECTORS: dict[str, type[Detector]] = {
    cls.method: cls for cls in (MCM, GLMCM, CLIPN, NegLabel, CSP, NegRefine)
}
"""Method name to detector class."""


def load_detector(
    path: str | os.PathLike[str],
    encoder: Encoder | str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
) -> Detector:
    """Load a detector that `Detector.save` wrote.

    Args:
        path: The directory.
        encoder: The encoder it was fitted with, or the name or directory to load it from if it
            moved; None loads it again by its saved name. Saved options such as the resize filter
            apply to what is loaded here.
        device: See `load_encoder`, for an encoder loaded here.
        dtype: See `load_encoder`, for an encoder loaded here.

    Raises:
        BundleError: Nothing there, damaged or changed files, a newer format, another encoder.
        EncoderError: The encoder cannot be loaded.
    """
    directory = Path(path)
    manifest, arrays, tables = read_bundle(directory)
    try:
        saved = manifest["encoder"]
        cls = DETECTORS[manifest["method"]]
        parameters = _decode_parameters(manifest["parameters"])
        class_names = list(manifest["class_names"])
        if encoder is None or isinstance(encoder, (str, os.PathLike)):
            encoder = _load_saved_encoder(saved, encoder, directory, device, dtype)
        if encoder.fingerprint != saved["fingerprint"]:
            raise BundleError(
                f"The detector in {str(directory)!r} was fitted with the encoder {saved['name']!r} "
                f"(fingerprint {saved['fingerprint'][:12]}), not with {encoder.name!r} "
                f"(fingerprint {encoder.fingerprint[:12]}): give the same model, or fit again."
            )
        detector = cls(encoder, **parameters)
        detector._restore(class_names, arrays, tables)
        detector.offset_ = manifest["offset"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(directory, f"its parts do not fit together: {error}") from error
    return detector


def _load_saved_encoder(
    saved: dict[str, Any],
    name: str | os.PathLike[str] | None,
    directory: Path,
    device: str,
    dtype: str,
) -> Encoder:
    options = dict(saved["options"])
    if options.get("background") is not None:
        options["background"] = tuple(options["background"])
    if name is not None:
        return load_encoder(name, device=device, dtype=dtype, **options)
    try:
        return load_encoder(saved["name"], device=device, dtype=dtype, **options)
    except EncoderError as error:
        raise EncoderError(
            f"The encoder of the detector in {str(directory)!r} cannot be loaded again; name the "
            f"model it was fitted with as encoder. {error}"
        ) from error


def _decode_parameters(encoded: dict[str, Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = {}
    for name, value in encoded.items():
        if name == "prompts" and value is not None:
            decoded[name] = Prompts.from_dict(value)
        elif isinstance(value, dict):
            decoded[name] = Unsaved(name, value["unsaved"])
        else:
            decoded[name] = value
    return decoded
