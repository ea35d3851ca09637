"""What a vision model is asked about an image, and what its answers come to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.base import Detector
from negrefine.detectors.explanation import Seen, VisionEvidence
from negrefine.detectors.vision_checks import VisionChecks
from negrefine.detectors.vision_score import class_seen, sigmoid, vision_score
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError

RULES = ("pair", "class")


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Questions about the names of a fitted detector that are nearest to an image.

    Attributes:
        k: Of class names and, by the rule "pair", of negative labels.
        rule: "pair" for S_VLM, "class" for V, which needs no negative labels.
    """

    detector: Detector
    k: int
    rule: str

    @property
    def n_classes(self) -> int:
        """Class names about which each image is asked, I."""
        return min(self.k, len(self.detector.class_indices()))

    @property
    def n_negatives(self) -> int:
        """Negative labels, J."""
        negatives = self.detector.negatives_
        if self.rule == "class" or negatives is None:
            return 0
        return min(self.k, len(negatives.texts))

    @property
    def width(self) -> int:
        """Questions about each image, I + J."""
        return self.n_classes + self.n_negatives

    def names(self, features: FloatArray) -> list[list[str]]:
        """Return the names for image features (n, d), class names first."""
        classes, _ = self.detector.nearest_classes(features, top=self.k)
        names = [[self.detector.class_names_[i] for i in row] for row in classes]
        found = self.detector.nearest_negatives(features, top=self.k) if self.n_negatives else None
        if found is None or self.detector.negatives_ is None:
            return names
        texts = self.detector.negatives_.texts
        return [[*own, *(texts[j] for j in row)] for own, row in zip(names, found[0], strict=True)]

    def columns_in(self, wider: Questions) -> NDArray[np.intp]:
        """Return where margins of these questions are among those of a larger `k`, (I + J,)."""
        negatives = wider.n_classes + np.arange(self.n_negatives, dtype=np.intp)
        return np.concatenate([np.arange(self.n_classes, dtype=np.intp), negatives])

    def score(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return S_VLM or V of margins (n, I + J), float64 (n,)."""
        classes, negatives = margins[:, : self.n_classes], margins[:, self.n_classes :]
        return class_seen(classes) if self.rule == "class" else vision_score(classes, negatives)

    def evidence(
        self, features: FloatArray, checks: VisionChecks, model: str, *, changed: bool
    ) -> VisionEvidence | None:
        """Return what the model says of one image with features (1, d), None if it was not asked.

        `changed` tells whether the verdict is another one than without the model.
        """
        if not checks.asked[0]:
            return None
        (names,) = self.names(features)
        shown = [
            Seen(name, None if np.isnan(margin) else float(sigmoid(margin)))
            for name, margin in zip(names, checks.margins[0], strict=True)
        ]
        return VisionEvidence(
            model=model,
            classes=shown[: self.n_classes],
            negatives=shown[self.n_classes :],
            score_without=float(checks.base_scores[0]),
            changed=changed,
            undecided=bool(checks.undecided[0]),
        )


def needs_images() -> InputError:
    """Return the error of what has features alone."""
    return InputError(
        "VisionChecked needs the images, because its vision model looks at them: call "
        "score_samples, predict, calibrate or explain with images, not with features."
    )
