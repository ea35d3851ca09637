"""Parameters of a VisionChecked detector, chosen on an OOD set: every answer is asked for once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.selected import union
from negrefine.detectors.selection import Marks, marks_of_features, marks_of_images
from negrefine.detectors.vision_band import moved_threshold
from negrefine.detectors.vision_checked import VisionChecked
from negrefine.detectors.vision_checks import VisionChecks
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError, JudgeError
from negrefine.evaluation.paired import SameImages, paired_differences
from negrefine.evaluation.results import Difference, Scores
from negrefine.evaluation.tune import TuningResult, candidates_of, compared
from negrefine.progress import progress_bar

if TYPE_CHECKING:
    from negrefine.encoders.images import ImageSource

# Images asked about at a time.
_ASKED = 64


@dataclass(frozen=True, eq=False)
class SeenImages:
    """n images and their features (n, d), which the vision model and the base see.

    Attributes:
        name: What a sentence calls them.
    """

    features: FloatArray
    images: Sequence[ImageSource]
    name: str

    @cached_property
    def marks(self) -> Marks:
        """By which the images are known again."""
        return union(marks_of_images(self.images), marks_of_features(self.features))


def tune_vision(
    detector: VisionChecked,
    inside: SeenImages,
    outside: SeenImages,
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    n_bootstrap: int = 1000,
    progress: bool = False,
) -> TuningResult:
    """Do what `tune` does for a detector whose vision model must see the images.

    Questions are asked once for all candidates, and only those that a candidate would ask: the
    scores of each are put together from the answers, and its band is a mask. The rows say how
    many questions each asks. With another alpha the scores of the base are others, so the band of
    such a candidate is moved: around the score under which as many of the in-distribution images
    are as were under the threshold.

    Images about which a question fails are left out of all candidates, with a warning.

    Args:
        detector: Its own values are the first candidate.
        inside: In-distribution images, which must not calibrate.
        outside: The validation set.
        grid: Values by parameter (`tunables.VISION_TUNABLES`); None tries those that are declared.
        n_bootstrap: Resamples of intervals and of the p-value.

    Raises:
        NotFittedError: The detector is not fitted.
        InputError: A grid that cannot be used, another alpha where the band is around thresholds
            by class, no resamples, or a single candidate.
        JudgeError: The vision model cannot be reached, or a set of which no image is left.
    """
    detector._check_fitted()
    for seen in (inside, outside):
        if not len(seen.features):
            raise InputError(f"There are no images of {seen.name}: give some to tune on.")
    candidates = candidates_of(detector, grid, n_bootstrap)
    sets = [_Answered(detector, each) for each in (inside, outside)]
    variants = [_variant(detector, each, sets[0]) for each in candidates]
    wanted = [each.wanted(variants) for each in sets]
    total = sum(int((of_set > 0).sum()) for of_set in wanted)
    asked = sum(detector.questions(k).width for of_set in wanted for k in of_set.tolist() if k)
    with progress_bar("Asking about images", total, enabled=progress) as advance:
        for each, of_set in zip(sets, wanted, strict=True):
            for n in each.ask(of_set, max(variant.k for variant in variants)):
                advance(n)
    for each in sets:
        each.leave_out_failed()
    checks = [[each.checks(variant) for each in sets] for variant in variants]
    _warn_undecided(checks)
    scores = [[found.scores for found in of_sets] for of_sets in checks]
    questions = [
        (of_id.n_questions / len(of_id.scores), of_ood.n_questions / len(of_ood.scores))
        for of_id, of_ood in checks
    ]
    result = compared(candidates, variants, scores, n_bootstrap, questions, progress=progress)
    return replace(result, n_questions=asked)


class _Answered:
    """Images with the parts of the base's score, and the answers about them."""

    def __init__(self, detector: VisionChecked, seen: SeenImages) -> None:
        self.seen = seen
        self._detector = detector
        self._parts = detector.base_.score_feature_parts(seen.features)
        self._classes = detector.predicted_classes(seen.features)
        self._failed: dict[int, str] = {}

    def base_scores(self, base: NegRefine) -> NDArray[np.float64]:
        """Return the scores of the base, with another alpha or its own, float64 (n,)."""
        return base.combine(self._parts)

    def wanted(self, variants: Sequence[VisionChecked]) -> NDArray[np.intp]:
        """Return the largest k with which a candidate asks about each image, 0 for none."""
        wanted = np.zeros(len(self._classes), dtype=np.intp)
        for each in variants:
            asked = each.doubts(self._parts, self._classes)
            wanted[asked] = np.maximum(wanted[asked], each.k)
        return wanted

    def ask(self, wanted: NDArray[np.intp], most: int) -> Iterator[int]:
        """Ask about each image with its k, `most` at most, and yield about how many at a time."""
        self._widest = self._detector.questions(most)
        self._margins = np.full((len(wanted), self._widest.width), np.nan)
        for k in sorted({*wanted.tolist()} - {0}):
            columns = self._detector.questions(k).columns_in(self._widest)
            rows = np.flatnonzero(wanted == k)
            for start in range(0, len(rows), _ASKED):
                block = rows[start : start + _ASKED]
                images = [self.seen.images[row] for row in block]
                margins, failed = self._detector.ask(self.seen.features[block], images, k)
                self._margins[np.ix_(block, columns)] = margins
                self._failed |= {int(block[i]): why for i, why in failed.items()}
                yield len(block)

    def leave_out_failed(self) -> None:
        """Leave out images about which a question failed, with a warning."""
        if not self._failed:
            return
        n = len(self._classes)
        _warn_left_out(self._failed, n, self.seen.name, "all candidates")
        kept = np.delete(np.arange(n), list(self._failed))
        self._parts = {name: values[kept] for name, values in self._parts.items()}
        self._classes, self._margins = self._classes[kept], self._margins[kept]

    def checks(self, variant: VisionChecked) -> VisionChecks:
        """Return what a candidate makes of the images that are not left out."""
        margins = self._margins[:, variant.questions().columns_in(self._widest)]
        return variant.checks_of(self._parts, self._classes, margins, {})


def _variant(
    detector: VisionChecked, values: Mapping[str, Any], inside: _Answered
) -> VisionChecked:
    """Return the candidate with these values; with another alpha, its band is moved."""
    variant = detector.with_params(**{n: value for n, value in values.items() if n != "alpha"})
    variant._band.check()
    if values["alpha"] == detector.alpha:
        return variant
    if values["alpha"] == 0:
        raise InputError("S_VLM stands beside S_MM, which alpha 0 leaves out: give other values.")
    base = detector.base_.with_params(alpha=values["alpha"])
    if variant.band is None:
        return variant.on_base(base, np.empty(0))
    if len(variant.band_thresholds_) > 1:
        raise InputError(
            "The band is around a threshold for each class, which means nothing for another alpha: "
            "leave out alpha or the band, or make the detector from one with a single threshold."
        )
    threshold = float(variant.band_thresholds_[0])
    before, after = inside.base_scores(detector.base_), inside.base_scores(base)
    moved = moved_threshold(threshold, before, after)
    return variant.on_base(base, np.array([moved]), inside.seen.marks)


def _warn_undecided(checks: Sequence[Sequence[VisionChecks]]) -> None:
    undecided = max(sum(int(found.undecided.sum()) for found in of_sets) for of_sets in checks)
    if undecided:
        n = sum(len(found.scores) for found in checks[0])
        warnings.warn(
            f"{undecided} of {n} images, in the candidate with the most, keep the score without "
            "the vision model, which left a question about them undecided.",
            stacklevel=3,
        )


def vision_differences_on_tests(
    before: VisionChecked,
    chosen: VisionChecked,
    inside: SeenImages,
    tests: Mapping[str, SeenImages],
    n_bootstrap: int = 1000,
) -> list[Difference]:
    """Do what `differences_on_tests` does; images about which a question fails are left out."""
    sets = {"": inside, **tests}
    scored: list[dict[str, list[Scores]]] = [{}, {}]
    for name, seen in sets.items():
        found = [each.check_features(seen.features, seen.images) for each in (chosen, before)]
        failed = found[0].failed | found[1].failed
        _warn_left_out(failed, len(seen.images), seen.name, "the test")
        kept = np.delete(np.arange(len(seen.images)), list(failed))
        for of_detector, checks in zip(scored, found, strict=True):
            of_detector[name] = [checks.scores[kept]]
    same = [SameImages(each.pop(""), each) for each in scored]
    return paired_differences("tuned", same[0], "before", same[1], n_bootstrap)


def _warn_left_out(failed: Mapping[int, str], n: int, name: str, of: str) -> None:
    """Warn of images about which a question failed; JudgeError if no other is left."""
    if not failed:
        return
    said = (
        f"{len(failed)} of {n} images of {name} are left out of {of}, because a question about "
        f"them failed; the first: {next(iter(failed.values()))}"
    )
    if len(failed) == n:
        raise JudgeError(said)
    warnings.warn(said, stacklevel=3)
