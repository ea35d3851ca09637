"""What a server says about a detector, without where its files are."""

from __future__ import annotations

import re
from typing import Any

from negrefine.detectors import Detector
from negrefine.detectors.parameters import encode_parameter
from negrefine.encoders.names import BUILTIN
from negrefine.errors import NotFittedError

# Folders of an absolute path; the last name stays. Hub ids and URLs are none.
_FOLDERS = re.compile(r"(?<![\w.:/\\-])(?:[A-Za-z]:[\\/]|[\\/]+|~/)(?:[^\\/\n]*[\\/])*")


def describe(name: str, version: str, detector: Detector) -> dict[str, Any]:
    """Return what `GET /v1/detector` answers."""
    negatives, known = detector.negatives_, detector.calibration_scores_
    parameters = {
        key: encode_parameter(value)
        for key, value in detector.get_params(deep=False).items()
        if key != "encoder"
    }
    return {
        "name": name,
        "method": detector.method,
        "title": detector.title,
        "paper": detector.paper,
        "classes": detector.class_names_,
        "n_negatives": None if negatives is None else len(negatives.kept),
        "n_removed": None if negatives is None else len(negatives.removed[0]),
        "left_out": _left_out(detector),
        "tuned": _tuned(detector),
        "threshold": detector.offset_,
        "fpr": detector.fpr_,
        "delta": detector.delta_,
        "by": detector.by_,
        "thresholds": _thresholds(detector),
        "groups": _groups(detector),
        "n_calibration": None if known is None else len(known),
        "encoder": {
            "name": without_folders(detector.encoder.name),
            "fingerprint": detector.encoder.fingerprint,
        },
        "identity": detector.identity(),
        "version": version,
        "parameters": without_folders(parameters),
        "builtin": detector.encoder.name == BUILTIN,
    }


def _left_out(detector: Detector) -> str | None:
    found = getattr(detector, "left_out_", None)
    return None if found is None else str(found)


def _tuned(detector: Detector) -> str | None:
    found = getattr(detector, "tuning_", None)
    return None if found is None else str(found)


def _thresholds(detector: Detector) -> dict[str, float] | None:
    """Return the threshold of each class name, None if all images have the same."""
    if detector.class_offsets_ is None:
        return None
    offsets = detector.class_offsets_.tolist()
    return {name: offsets[index] for name, index in detector.class_indices().items()}


def _groups(detector: Detector) -> list[dict[str, Any]] | None:
    """Return which classes share a threshold, None if no rank of it is known."""
    try:
        groups = detector.threshold_groups()
    except NotFittedError:
        return None
    return [
        {
            "kind": each.kind,
            "classes": [int(index) for index in each.classes],
            "n": each.n,
            "rank": each.rank,
            "threshold": each.threshold,
        }
        for each in groups
    ]


def without_folders(value: Any) -> Any:
    """Return JSON data in which absolute paths are reduced to their last name."""
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    return value
