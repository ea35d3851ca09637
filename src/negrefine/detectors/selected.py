"""A detector that remembers on which images something about it was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Self

from negrefine.detectors.base import Detector
from negrefine.detectors.saved_form import checked
from negrefine.detectors.selection import (
    Marks,
    check_apart_from,
    check_marks,
    marks_of_features,
    marks_of_images,
)
from negrefine.detectors.tuning import Tuning
from negrefine.encoders.base import FloatArray

if TYPE_CHECKING:
    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.encoders.images import ImageSource

TUNING, ALPHAS, BASE = "tuning", "alphas", "base"
_SAID = {
    TUNING: "the parameters of this detector were tuned on",
    ALPHAS: "the alphas of this detector were chosen on",
    BASE: "the parameters of its base were chosen on",
}


class Selected(Detector):
    """A detector with parameters that may have been chosen on images.

    `calibrate` and `calibrate_features` refuse images that the choice has seen, with which the
    threshold would promise more than it keeps; `calibrate_scores` cannot know.
    """

    # What was chosen to the marks of the images that chose it; never changed in place.
    _marks: Mapping[str, Marks] = {}
    _tuning: Tuning | None = None

    @property
    def tuning_(self) -> Tuning | None:
        """What `negrefine tune` has chosen; None where nothing or another value was set since."""
        tuning = self._tuning
        return tuning if tuning is not None and tuning.is_of(self) else None

    @property
    def tuning_marks(self) -> Marks:
        """The marks of the images that chose the tuned parameters, uint64 (n,), none without."""
        return self._in_force().get(TUNING, np.array([], dtype=np.uint64))

    def set_tuning(self, tuning: Tuning, marks: Marks) -> None:
        """Take up what was tuned, and the marks of the images that chose."""
        self._tuning = tuning
        self._mark(TUNING, marks)

    def _mark(self, what: str, marks: Marks) -> None:
        self._marks = {**self._marks, what: marks}

    def _mark_base(self, base: Detector) -> None:
        """Take up what decided something about the detector whose score is a part of this one's."""
        if isinstance(base, Selected) and base.has_seen_images:
            self._mark(BASE, union(*base._in_force().values()))

    def _in_force(self) -> dict[str, Marks]:
        """Return the marks of the images that decided something about this detector."""
        marks = dict(self._marks)
        if self.tuning_ is None:
            marks.pop(TUNING, None)
        return marks

    @property
    def has_seen_images(self) -> bool:
        """Whether something about this detector was chosen on images."""
        return bool(self._in_force())

    def check_unseen(self, marks: Marks, purpose: str = "calibrate") -> None:
        """Raise InputError if images with these marks have chosen something about this detector."""
        for what, known in self._in_force().items():
            check_apart_from(known, marks, _SAID[what], purpose)

    def check_unseen_images(
        self, images: Sequence[ImageSource], purpose: str = "calibrate"
    ) -> None:
        """Do what `check_unseen` does with images, which are read only if there is a choice."""
        if self._in_force():
            self.check_unseen(marks_of_images(images), purpose)

    def calibrate(
        self,
        images: Sequence[ImageSource],
        fpr: float = 0.05,
        *,
        delta: float | None = None,
        by: str | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Self:
        """Set the threshold; see `Calibrated.calibrate`.

        Raises InputError for images on which alphas or parameters were chosen, too.
        """
        self._check_fitted()
        if self._in_force():
            images = images if isinstance(images, Sized) else list(images)
            self.check_unseen_images(images)
        return super().calibrate(
            images, fpr, delta=delta, by=by, batch_size=batch_size, progress=progress
        )

    def calibrate_features(
        self,
        features: ArrayLike,
        fpr: float = 0.05,
        *,
        patches: ArrayLike | None = None,
        delta: float | None = None,
        by: str | None = None,
    ) -> Self:
        """Do what `calibrate` does, from image features (n, d)."""
        self._check_fitted()
        if self._in_force():
            self.check_unseen(marks_of_features(self._check_features(features)))
        return super().calibrate_features(features, fpr, patches=patches, delta=delta, by=by)

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        self._forget_choices()
        super()._fit(class_names, class_features, progress=progress)

    def _forget_choices(self) -> None:
        """Forget what was chosen on images, for `fit`."""
        self._marks, self._tuning = {}, None

    def _records(self) -> dict[str, Any]:
        tuning = self.tuning_
        return {**super()._records(), **({} if tuning is None else {"tuning": tuning.as_dict()})}

    def _restore_records(self, manifest: Mapping[str, Any]) -> None:
        super()._restore_records(manifest)
        self._tuning = Tuning.of(manifest["tuning"]) if "tuning" in manifest else None

    def _kept_arrays(self) -> Arrays:
        marks = {f"chosen_on.{what}": marks for what, marks in self._in_force().items()}
        return {**super()._kept_arrays(), **marks}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        self._marks = {
            what: checked(arrays, name, check_marks)
            for what in _SAID
            if (name := f"chosen_on.{what}") in arrays
        }


def union(*marks: Marks) -> Marks:
    """Return all marks, sorted and distinct."""
    return np.unique(np.concatenate(marks))
