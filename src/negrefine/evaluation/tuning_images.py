"""The images of a tuning, kept apart by what they are for, and the record that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from negrefine.detectors.selected import Selected, union
from negrefine.detectors.selection import (
    Marks,
    check_apart_from,
    marks_of_features,
    marks_of_images,
)
from negrefine.detectors.tuning import Tuning
from negrefine.encoders.base import FloatArray
from negrefine.evaluation.overlap import check_apart
from negrefine.evaluation.paired import SameImages, paired_differences
from negrefine.evaluation.provenance import images_digest
from negrefine.evaluation.results import Difference, Measured
from negrefine.evaluation.tune import TuningResult


@dataclass(frozen=True)
class TuningImages:
    """Image files by what they are for.

    Attributes:
        inside: In-distribution images.
        name: The name of the validation set.
        outside: Its images.
        alphas: In-distribution images that choose alphas of classes.
        test_inside: In-distribution images to test on.
        tests: OOD sets to test on.
    """

    inside: Sequence[Path]
    name: str
    outside: Sequence[Path]
    alphas: Sequence[Path] = ()
    test_inside: Sequence[Path] = ()
    tests: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise InputError for an image that serves two purposes.

        A few images that are both in-distribution and OOD give a warning.
        """
        check_apart(self.inside, {self.name: self.outside})
        tuned = union(marks_of_images(self.inside), marks_of_images(self.outside))
        alphas = marks_of_images(self.alphas)
        said = "the parameters are tuned on"
        check_apart_from(tuned, alphas, said, "choose alphas")
        if not self.test_inside:
            return
        check_apart(self.test_inside, self.tests)
        for paths in (self.test_inside, *self.tests.values()):
            marks = marks_of_images(paths)
            check_apart_from(union(tuned, alphas), marks, said, "test")

    def check_tests(self, detector: Selected) -> None:
        """Raise InputError for images to test on, on which the detector was chosen before."""
        for paths in (self.test_inside, *self.tests.values()):
            detector.check_unseen_images(paths, "test")

    def alpha_marks(self) -> Marks:
        """Return the marks of the images that choose alphas."""
        return marks_of_images(self.alphas)

    def recorded(
        self,
        detector: Selected,
        result: TuningResult,
        position: int,
        features: Sequence[FloatArray],
    ) -> Selected:
        """Return one of the candidates, which says what it was chosen on and among how many.

        The first candidate is the detector as it was, with its threshold. `features` are those of
        the readable images of both sets, by which `calibrate_features` knows them again.
        """
        chosen = copy(detector)
        if position:
            candidate = result.detectors[position]
            assert isinstance(candidate, Selected)  # noqa: S101 - made from `detector`
            chosen = copy(candidate)
        best = result.rows[result.best]
        gain = best.auroc_gain or Measured(0.0, 0.0, 0.0)
        tuning = Tuning(
            validation=self.name,
            n_validation=len(self.outside),
            validation_images=images_digest(self.outside),
            n_id=len(self.inside),
            id_images=images_digest(self.inside),
            candidates=len(result.rows),
            chosen=dict(result.rows[position].values),
            instead_of=dict(result.rows[0].values),
            gain=gain.value,
            low=float(gain.low or 0.0),
            high=float(gain.high or 0.0),
            p_value=result.p_value,
        )
        # Of the images of alphas, too: candidates that were not chosen were made on them.
        marks = map(marks_of_images, (self.inside, self.outside, self.alphas))
        # And of those that had chosen the values from before.
        earlier = detector.tuning_marks
        chosen.set_tuning(tuning, union(earlier, *marks, *map(marks_of_features, features)))
        return chosen


def differences_on_tests(
    before: Selected,
    chosen: Selected,
    inside: FloatArray,
    tests: Mapping[str, FloatArray],
    n_bootstrap: int = 1000,
) -> list[Difference]:
    """Return what a choice gains on images that had no part in it: `paired_differences`."""
    scored = [
        SameImages(
            [each.score_features(inside)],
            {name: [each.score_features(features)] for name, features in tests.items()},
        )
        for each in (chosen, before)
    ]
    return paired_differences("tuned", scored[0], "before", scored[1], n_bootstrap)
