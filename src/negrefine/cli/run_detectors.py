"""The fitted detectors of the commands that evaluate several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.detectors import Detector
    from negrefine.encoders import Encoder


def check_methods(methods: Sequence[str], *, ablation: bool = False) -> None:
    """Check --methods before a model is loaded.

    Raises:
        InputError: A method is unknown, or the ablation is wanted without NegRefine.
    """
    from negrefine.detectors import DETECTORS

    for method in methods:
        if method not in DETECTORS:
            raise InputError(
                f"There is no method {method!r}: choose from {', '.join(sorted(DETECTORS))}."
            )
    if ablation and "negrefine" not in methods:
        raise InputError("The ablation is NegRefine's: add negrefine to the methods.")


def fit_detectors(
    encoder: Encoder,
    class_names: Sequence[str],
    methods: Sequence[str],
    parameters: Mapping[str, Mapping[str, Any]],
) -> dict[str, Detector]:
    """Return a fitted detector for each method.

    Args:
        encoder: From `load_encoder`.
        class_names: K names.
        methods: Checked by `check_methods`.
        parameters: Method to keyword arguments of its detector.
    """
    from negrefine.detectors import DETECTORS

    return {
        method: DETECTORS[method](encoder, **parameters.get(method, {})).fit(
            class_names, progress=True
        )
        for method in methods
    }


def fit_ablation(detectors: Mapping[str, Detector]) -> dict[str, Detector]:
    """Return the variants of NegRefine that --ablation evaluates."""
    from negrefine.detectors import NegRefine
    from negrefine.evaluation.ablation import ablation_of

    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)  # noqa: S101 - the class of this method
    return ablation_of(detector)
