"""From a saved directory back to a detector: `load_detector`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.detectors.base import Detector
from negrefine.detectors.bundle import MANIFEST, damaged, manifest_of, read_bundle
from negrefine.detectors.hub import check_encoder_of_stranger, local_bundle, named_as
from negrefine.detectors.kept_calibration import KeptCalibration, restored_calibration
from negrefine.detectors.parameters import check_decoded, decode_parameters
from negrefine.detectors.proposed import Proposed, read_proposals
from negrefine.detectors.registry import saved_methods
from negrefine.detectors.saved_form import FACTS
from negrefine.encoders.base import Encoder, check_encoder
from negrefine.errors import BundleError, EncoderError, InputError, NotFittedError
from negrefine.labels.negatives import NegativeLabel
from negrefine.labels.prompts import Prompts
from negrefine.pretrained.hub_address import HubAddress, hub_address, is_hub_address
from negrefine.pretrained.loading import check_dtype, pick_device

if TYPE_CHECKING:
    from negrefine.labels.rarer_words import LeftOut


def load_detector(
    path: str | os.PathLike[str],
    encoder: Encoder | str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
) -> Detector:
    """Load a detector that `Detector.save` wrote to a directory, or that was pushed to the hub.

    `path` is a directory or an address such as "hf://user/name" or "hf://user/name@commit"
    (docs/sharing.md). Nothing but JSON and safetensors is read, and no code is run.

    `encoder` is the one it was fitted with, or the name or directory to load it from if it moved;
    None loads it again by its saved name. An encoder loaded here gets `device` and `dtype` (see
    `load_encoder`) and the saved options, such as the resize filter.

    Raises:
        BundleError: Nothing there, damaged or changed files, a newer format, another encoder.
        EncoderError: The encoder cannot be loaded.
        InputError: `encoder` is something else.

    Example:
        >>> refine.save("kept")
        >>> negrefine.load_detector("kept", encoder).class_names_[:2]
        ['bear', 'cat']
    """
    if encoder is not None and not isinstance(encoder, (str, os.PathLike)):
        check_encoder(encoder)
    address = hub_address(path, BundleError) if is_hub_address(path) else None
    directory = local_bundle(path)
    with named_as(address, directory):
        return _load(directory, address, encoder, device, dtype)


def _load(
    directory: Path,
    address: HubAddress | None,
    encoder: Encoder | str | os.PathLike[str] | None,
    device: str,
    dtype: str,
) -> Detector:
    manifest, arrays, tables = read_bundle(directory)
    try:
        FACTS(MANIFEST, manifest)
        saved = manifest["encoder"]
        method = manifest["method"]
        known = saved_methods()
        if method not in known:
            raise BundleError(
                f"The detector in {str(directory)!r} is of the method {method!r}, which this "
                f"installation does not have (it has {', '.join(known)}): register its class "
                "with negrefine.detectors.register, or upgrade negrefine."
            )
        parameters = decode_parameters(manifest["parameters"])
        if address is not None and encoder is None:
            check_encoder_of_stranger(address, saved["name"], saved["fingerprint"])
        if encoder is None or isinstance(encoder, (str, os.PathLike)):
            encoder = _load_saved_encoder(saved, encoder, directory, device, dtype)
        if encoder.fingerprint != saved["fingerprint"]:
            raise BundleError(
                f"The detector in {str(directory)!r} was fitted with the encoder {saved['name']!r} "
                f"(fingerprint {saved['fingerprint'][:12]}), not with {encoder.name!r} "
                f"(fingerprint {encoder.fingerprint[:12]}): give the same model"
                f"{_other_options(saved['options'], encoder)}, or fit again."
            )
        detector = known[method](encoder, **parameters)
        check_decoded(detector, parameters)
        if detector.prompts_ != Prompts(**manifest["prompts"]):
            raise ValueError("the prompts are not those of its parameters")
        detector._restore(manifest["class_names"], arrays, tables)
        detector._restore_calibration(manifest, arrays)
        if hasattr(detector, "left_out_"):
            detector.left_out_ = _read_left_out(manifest)
        detector._restore_records(manifest)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged(directory, f"its parts do not fit together: {_short(error)}") from error
    return detector


def load_labels(path: str | os.PathLike[str]) -> list[NegativeLabel] | None:
    """Read all negative labels of a saved detector, None if it has none, without its encoder.

    Raises BundleError as `load_detector`.
    """
    directory = local_bundle(path)
    _, _, tables = read_bundle(directory)
    # Of a detector that is built on another, those of the other.
    rows = tables.get("negative_labels", tables.get("base_negative_labels"))
    if rows is None:
        return None
    try:
        return [NegativeLabel.from_row(row) for row in rows]
    except ValueError as error:
        raise damaged(directory, f"its labels cannot be read: {_short(error)}") from error


def load_proposals(path: str | os.PathLike[str]) -> list[Proposed]:
    """Read what was proposed to a saved detector, without its encoder.

    Raises BundleError as `load_detector`.
    """
    directory = local_bundle(path)
    _, _, tables = read_bundle(directory)
    try:
        return read_proposals(tables.get("audit", ()))
    except ValueError as error:
        raise damaged(directory, f"its proposals cannot be read: {_short(error)}") from error


def load_left_out(path: str | os.PathLike[str]) -> LeftOut | None:
    """Read what a saved detector left out of its lexicon, without its encoder.

    Raises BundleError as `load_detector`.
    """
    directory = local_bundle(path)
    try:
        return _read_left_out(manifest_of(directory))
    except InputError as error:
        raise damaged(directory, f"its parts do not fit together: {_short(error)}") from error


def _read_left_out(manifest: dict[str, Any]) -> LeftOut | None:
    if "left_out" not in manifest:
        return None
    from negrefine.labels.rarer_words import read_left_out

    return read_left_out(manifest)


def load_calibration(path: str | os.PathLike[str]) -> KeptCalibration:
    """Read what a saved detector keeps of its calibration, without its encoder.

    Raises:
        BundleError: As `load_detector`.
        NotFittedError: It has no threshold from `calibrate`, or one of an earlier version that did
            not keep the false-alarm rate.
    """
    directory = local_bundle(path)
    manifest, arrays, _ = read_bundle(directory)
    try:
        FACTS(MANIFEST, manifest)
        return restored_calibration(manifest, arrays)
    except NotFittedError as error:
        raise NotFittedError(f"The detector in {str(directory)!r}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(directory, f"its parts do not fit together: {_short(error)}") from error


def _short(error: Exception) -> str:
    """Return what an error says; what it shows of a file may be long."""
    text = str(error).rstrip(".")
    return text if len(text) <= 300 else f"{text[:297]}..."


def _load_saved_encoder(
    saved: dict[str, Any],
    name: str | os.PathLike[str] | None,
    directory: Path,
    device: str,
    dtype: str,
) -> Encoder:
    from negrefine.encoders.loading import load_encoder

    # What is wrong about these says nothing about the encoder.
    check_dtype(dtype, EncoderError)
    if device != "auto":
        pick_device(device, EncoderError)
    # Options that are None are not stored, and white is the default of a background.
    options = {"background": None, **saved["options"]}
    try:
        return load_encoder(name or saved["name"], device=device, dtype=dtype, **options)
    except EncoderError as error:
        if name is not None:
            raise
        raise EncoderError(
            f"The encoder of the detector in {str(directory)!r} cannot be loaded again; name the "
            f"model it was fitted with as encoder. {error}"
        ) from error


def _other_options(saved: dict[str, Any], encoder: Encoder) -> str:
    """Name the options of an encoder that differ from the saved ones, with the saved values."""
    given = encoder.options
    differing = [key for key in sorted({*saved, *given}) if saved.get(key) != given.get(key)]
    if not differing:
        return ""
    return " loaded with " + ", ".join(f"{key}={saved.get(key)!r}" for key in differing)
