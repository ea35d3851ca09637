"""What a detector on a fitted NegRefine takes over from it: labels, choices and saved form."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.saved_base import base_arrays, base_tables
from negrefine.detectors.selected import BAND, TUNING, Selected, union
from negrefine.detectors.selection import Marks
from negrefine.detectors.tuning import Tuning
from negrefine.detectors.vision_band import Band

if TYPE_CHECKING:
    from negrefine.detectors.bundle import Arrays, Tables

_RECORD = "vision_tuning"


class OnNegRefine(Selected):
    """A detector on a fitted NegRefine, with a band around its threshold.

    What was chosen about either of them counts: `tuning_` is the detector's own or else that of the
    base, and the images of both choices are refused where they are.
    """

    base_: NegRefine
    band: float | None
    band_thresholds_: NDArray[np.float64]

    def hold(self, base: NegRefine, thresholds: NDArray[np.float64]) -> Self:
        """Take the base detector, and its thresholds; InputError for a band without any."""
        self.base_, self.band_thresholds_ = base, thresholds
        self.class_names_, self.class_features_ = base.class_names_, base.class_features_
        self.negatives_ = base.negatives_
        self._band.check()
        return self

    def on_base(
        self, base: NegRefine, thresholds: NDArray[np.float64], marks: Marks | None = None
    ) -> Self:
        """Return a copy without a threshold on another base of the same labels; see `hold`.

        `marks` are those of images that placed the band, with which `calibrate` is refused.
        """
        other = copy(self)
        other._forget_calibration()
        if marks is not None:
            other._mark(BAND, marks)
        return other.hold(base, thresholds)

    @property
    def alpha(self) -> float:
        """The weight of S_MM and S_VLM together: that of the base."""
        return self.base_.alpha

    @property
    def _band(self) -> Band:
        return Band(self.band_thresholds_, self.band)

    @property
    def tunings_(self) -> list[Tuning]:
        """What `negrefine tune` has chosen about the base, and then about this detector."""
        return [*self.base_.tunings_, *super().tunings_]

    def _in_force(self) -> dict[str, Marks]:
        own, of_base = super()._in_force(), self.base_._in_force()
        if self.band is None:
            own.pop(BAND, None)
        return {
            what: union(*(marks[what] for marks in (own, of_base) if what in marks))
            for what in {**own, **of_base}
        }

    def _records(self) -> dict[str, Any]:
        own = super()._records()
        if TUNING in own:
            own[_RECORD] = own.pop(TUNING)
        return {**own, **self.base_._records()}

    def _restore_records(self, manifest: Mapping[str, Any]) -> None:
        own = {TUNING: manifest[_RECORD]} if _RECORD in manifest else {}
        super()._restore_records(own)
        self.base_._restore_records(manifest)

    def _saved_arrays(self) -> Arrays:
        return {
            **super()._saved_arrays(),
            **base_arrays(self.base_._saved_arrays()),
            "band_thresholds": self.band_thresholds_,
        }

    def _kept_arrays(self) -> Arrays:
        return {**super()._kept_arrays(), **base_arrays(self.base_._kept_arrays())}

    def _saved_tables(self) -> Tables:
        return {**super()._saved_tables(), **base_tables(self.base_)}
