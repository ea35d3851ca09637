"""NegRefine whose doubtful images a vision-language model looks at."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from negrefine.constraints import Boolean, Number, OneOf, Whole
from negrefine.detectors.base import Detector
from negrefine.detectors.explanation import Explanation
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.parameters import Unsaved, detector, fitted, parameter
from negrefine.detectors.saved_base import restored_base
from negrefine.detectors.vision_asking import ImageAsker
from negrefine.detectors.vision_base import OnNegRefine
from negrefine.detectors.vision_checks import VisionChecks, VisionReport
from negrefine.detectors.vision_questions import RULES, Questions, needs_images
from negrefine.detectors.vision_saved import check_base, check_vision, saved_judge, usable_judge
from negrefine.detectors.vision_score import checked_score
from negrefine.errors import InputError
from negrefine.judges.vision import VisionJudge, vision_identity
from negrefine.labels.prompts import CSP_PROMPTS

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.encoders.base import FloatArray
    from negrefine.encoders.images import ImageSource


@detector
class VisionChecked(OnNegRefine):
    """S = S_NegLabel + alpha [(1 - w) S_MM + w S_VLM], S_VLM from a model that sees the image.

    The vision model is asked "Is there a {name} in this image?" for the k class names and the k
    negative labels nearest to an image (`negrefine.detectors.vision_score`). With a `band`, it is
    asked only about images whose NegRefine score is closer than that to NegRefine's threshold;
    all others keep their score. Threshold and band are fixed before `calibrate`, which sets the
    threshold of the final score, so that its guarantee and p-values are those of what is decided.

    An image about which the model leaves an answer undecided keeps its score without the model; it
    is counted, and a warning says so. If a question fails, scoring raises after all others were
    answered and stored, so that the next run asks only what is missing; `check` names these images.

    Made by `VisionChecked.of`. It needs the images: scoring features alone raises InputError.

    Example:
        >>> class Sure:
        ...     name = "sure"
        ...
        ...     def yes_margins(self, images, names):
        ...         return np.array([[4.0 if n == "cat" else -4.0 for n in row] for row in names])
        >>> checked = negrefine.VisionChecked.of(refine, Sure(), weight=1.0, rule="class", k=8)
        >>> checked.score_parts(["cat.png"])["vision"].round(3).tolist()
        [0.982]

    Attributes:
        base_: The NegRefine detector, without a threshold.
        total_: The `report` of all images that were checked since it was made or loaded.
        band_thresholds_: float64, what the band is around: the threshold of NegRefine (1,), or
            that of each class (K,); none, (0,), if NegRefine had none.
    """

    method = "vision-checked"
    title = "NegRefine with S_VLM"
    paper = ""
    parts = ("neglabel", "multi_match", "vision")
    image_parts = ("vision",)
    default_prompts = CSP_PROMPTS

    vision: VisionJudge | Unsaved | None = parameter(
        None, check_vision, "Answers questions about images.", on_command_line=False
    )
    weight: float = parameter(
        0.5,
        Number("lie in [0, 1]", low=0, high=1, closed="both"),
        "Weight of S_VLM against S_MM, w; 0 is NegRefine's score and asks nothing.",
    )
    k: int = parameter(
        2, Whole(1), "Ask about the k nearest class names and the k nearest negative labels."
    )
    band: float | None = parameter(
        None,
        Number("be a positive number or None", low=0, optional=True),
        "Ask only where NegRefine's score is closer than this to its threshold; None asks always.",
    )
    rule: str = parameter(
        "pair",
        OneOf(RULES),
        "'pair': S_VLM, a class together with a negative label; 'class': V, one of the classes.",
    )
    confine: bool = parameter(
        False,
        Boolean(),
        "Keep the score of an image that was asked about inside the band, so that it passes no "
        "image outside.",
    )
    correct: bool = parameter(
        False, Boolean(), "Subtract the answers on a grey image, asked once for each name."
    )
    base_: NegRefine = fitted()
    band_thresholds_: NDArray[np.float64] = fitted()
    vision_identity_: str | None = fitted(None)
    total_: VisionReport = fitted(VisionReport())

    @classmethod
    def of(cls, base: Detector, vision: VisionJudge, **parameters: Any) -> Self:
        """Return a detector on a fitted NegRefine; the band is around its threshold.

        Args:
            base: It stays as it is.
            vision: An `HFVision`, an `OpenAIVision` or any other `VisionJudge`.
            parameters: Those of the class.

        Raises:
            InputError: Another detector, one without S_MM or negative labels, a band where the
                base has no threshold, or a parameter that cannot be used.
            NotFittedError: The base is not fitted.
        """
        base = check_base(base)
        made = cls(base.encoder, vision=vision, prompts=base.prompts, **parameters)
        made.check_parameters()
        thresholds = base.class_offsets_
        if thresholds is None:
            thresholds = np.array([] if base.offset_ is None else [base.offset_], dtype=np.float64)
        return made.hold(base.with_params(), thresholds)

    def fit(self, class_names: Iterable[str], y: object = None, *, progress: bool = False) -> Self:
        """Raise InputError: NegRefine is fitted, and this made from it."""
        del class_names, y, progress
        raise InputError("Fit a NegRefine and make this detector from it: VisionChecked.of(base).")

    def check(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> VisionChecks:
        """Score n paths, Pillow images or arrays, and return what the vision model did.

        Answers are stored as they arrive. Images whose questions fail are in `failed` and have no
        score, NaN. Raises ImageError for an image that cannot be read, JudgeError for a model that
        cannot be reached, and NotFittedError before `of`.
        """
        from negrefine.encoders.images import check_is_list

        self._check_fitted()
        check_is_list(images)
        listed = images if isinstance(images, (list, tuple, np.ndarray)) else list(images)
        blocks: list[VisionChecks] = []
        start = 0
        for features, _ in self._encode_blocks(listed, batch_size, progress=progress):
            sources = listed[start : start + len(features)]
            blocks.append(self.check_features(features, sources))
            start += len(features)
        return VisionChecks.concatenate(blocks)

    def check_features(self, features: FloatArray, images: Sequence[ImageSource]) -> VisionChecks:
        """Do what `check` does, where the features (n, d) of n images are known already."""
        parts = self.base_.score_feature_parts(features)
        classes = self.predicted_classes(features)
        rows = np.flatnonzero(self.doubts(parts, classes)).tolist()
        margins = np.full((len(classes), self._questions.width), np.nan)
        failed: dict[int, str] = {}
        if rows:
            asked = np.asarray(features)[rows]
            margins[rows], lost = self.ask(asked, [images[row] for row in rows])
            failed = {rows[i]: why for i, why in lost.items()}
        checks = self.checks_of(parts, classes, margins, failed)
        self.total_ += self.report(checks)
        return checks

    def doubts(
        self, parts: dict[str, NDArray[np.float64]], classes: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """Return which images with these parts of the base's score the model is asked about."""
        return self._band.contains(self.base_.combine(parts), classes) & (self.weight != 0)

    def ask(
        self, features: FloatArray, images: Sequence[ImageSource], k: int | None = None
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Ask about all of n images with features (n, d), whether or not in the band.

        `k` replaces that of the detector. Returns the margins (n, I + J) as in `VisionChecks`, and
        for each image about which a question failed its position, and why. Raises JudgeError where
        all questions fail.
        """
        names = self.questions(k).names(features)
        margins, failed = self._asker().margins(images, names)
        return np.array(margins).reshape(len(images), -1), failed

    def checks_of(
        self,
        parts: dict[str, NDArray[np.float64]],
        classes: NDArray[np.intp],
        margins: NDArray[np.float64],
        failed: Mapping[int, str],
    ) -> VisionChecks:
        """Return the scores of n images from parts of the base's score and margins (n, I + J).

        Margins of images about which the model is not to be asked are not used, nor is a failure.
        """
        base_scores = self.base_.combine(parts)
        asked = self.doubts(parts, classes)
        margins = np.where(asked[:, None], margins, np.nan)
        failed = {row: why for row, why in failed.items() if asked[row]}
        parts = {**parts, "vision": self._questions.score(margins)}
        scores = self.combine(parts)
        if self.confine:
            scores = np.where(asked, self._band.confine(scores, classes), scores)
        scores[list(failed)] = np.nan
        n_questions = int(asked.sum()) * self._questions.width
        return VisionChecks(
            parts, base_scores, scores, classes, asked, margins, n_questions, failed
        )

    def report(self, checks: VisionChecks) -> VisionReport:
        """Return how often the model was asked, and how many verdicts it changed."""
        changed = None
        ok = ~np.isnan(checks.scores)
        if len(self.band_thresholds_) and self.offset_ is not None:
            final = checks.scores >= self.image_thresholds(checks.classes)
            before = checks.base_scores >= self._band.centre(checks.classes)
            changed = int((final != before)[ok].sum())
        return VisionReport(
            len(ok),
            int(checks.asked.sum()),
            checks.n_questions,
            int(checks.undecided.sum()),
            len(checks.failed),
            changed,
        )

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return S; where "vision" is NaN, the model not having been asked, NegRefine's score."""
        without = self.base_.combine({name: parts[name] for name in self.base_.part_names_})
        if self.weight == 0:
            return without
        vision, (rest, alpha) = parts["vision"], self.base_.score_terms(parts)
        with_vision = checked_score(rest, parts["multi_match"], vision, alpha, self.weight)
        return np.where(np.isnan(vision), without, with_vision)

    def _part_names(self) -> list[str]:
        return [*self.base_.part_names_, *self.image_parts]

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return S_NegLabel or S_MM; InputError for S_VLM, which no feature tells."""
        if name == "vision":
            raise needs_images()
        return self.base_.compute_part(name, images)

    def score_feature_parts(
        self,
        features: ArrayLike,
        patches: ArrayLike | None = None,
        *,
        only: Iterable[str] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Raise InputError: the vision model must see the images."""
        del features, patches, only
        raise needs_images()

    def score_parts(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """Return the components of the score; "vision" is NaN where the model was not asked.

        Raises as `check`, and JudgeError if a question failed.
        """
        return self._whole(images, batch_size, progress).parts

    def score_samples(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> NDArray[np.float64]:
        """Return float64 (n,) scores of n images, larger for in-distribution; see `check`."""
        return self._whole(images, batch_size, progress).scores

    def _scores_and_classes(
        self, images: Sequence[ImageSource], batch_size: int = 64, *, progress: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        checks = self._whole(images, batch_size, progress)
        return checks.scores, checks.classes

    def classify(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> list[str | None]:
        """Return the most similar class name of each image, or None for "none of these"."""
        self._threshold()
        checks = self._whole(images, batch_size, progress)
        inside = checks.scores >= self.image_thresholds(checks.classes)
        return [
            self.class_names_[index] if verdict else None
            for verdict, index in zip(inside, checks.classes, strict=True)
        ]

    def explain(self, image: ImageSource, *, top: int = 5, unfiltered: bool = False) -> Explanation:
        """Return what decided the score of one image, the vision model's answers among it.

        `unfiltered` is NegRefine's own score without its filter. Raises JudgeError if a question
        failed.
        """
        self._check_fitted()
        ((features, _),) = self._encode_blocks([image], 1, progress=False)
        checks = self.check_features(features, [image])
        checks.check_whole()
        (found,) = self.base_.explain_features(features, top=top, unfiltered=unfiltered)
        (decision,) = self.decide(checks.scores, checks.classes)
        kinds = self._threshold_kinds()
        parts = {name: float(values[0]) for name, values in checks.parts.items()}
        if np.isnan(parts["vision"]):
            del parts["vision"]
        return replace(
            found,
            score=float(checks.scores[0]),
            parts=parts,
            threshold=decision.threshold,
            verdict=decision.verdict,
            p_value=decision.p_value,
            threshold_kind=None if kinds is None else kinds[checks.classes[0]],
            vision=self._questions.evidence(
                features, checks, self._judge().name, changed=bool(self.report(checks).changed)
            ),
        )

    def _whole(
        self, images: Sequence[ImageSource], batch_size: int, progress: bool
    ) -> VisionChecks:
        checks = self.check(images, batch_size=batch_size, progress=progress)
        checks.check_whole()
        if n := int(checks.undecided.sum()):
            warnings.warn(
                f"{n} of {len(checks.scores)} images keep the score without the vision model "
                f"{self._judge().name!r}, which left a question about them undecided.",
                stacklevel=3,
            )
        return checks

    def _judge(self) -> VisionJudge:
        return usable_judge(self.vision, self.vision_identity_)

    @property
    def _questions(self) -> Questions:
        return self.questions()

    def questions(self, k: int | None = None) -> Questions:
        """Return the questions about an image, those of this detector or of another `k`."""
        return Questions(self.base_, self.k if k is None else k, self.rule)

    def _asker(self) -> ImageAsker:
        judge = self._judge()
        if not self.correct:
            return ImageAsker(judge, self.encoder)
        # Copies with other parameters share what is known of a model.
        known: dict[str, dict[str, float]] = self.__dict__.setdefault("_grey", {})
        grey = known.setdefault(vision_identity(judge), {})
        return ImageAsker(judge, self.encoder, grey)

    def _saved_tables(self) -> Tables:
        judge = saved_judge(self.vision, self.vision_identity_)
        return {**super()._saved_tables(), "vision": [judge]}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        from negrefine.judges.vision_settings import judge_from

        super()._restore(class_names, arrays, tables)
        base = check_base(restored_base(self.encoder, class_names, arrays, tables))
        thresholds = arrays["band_thresholds"]
        fits = thresholds.dtype == np.float64 and thresholds.ndim == 1
        if not (
            fits and len(thresholds) in (0, 1, len(class_names)) and np.isfinite(thresholds).all()
        ):
            raise InputError("band_thresholds must be finite float64, one or one for each class.")
        (saved,) = tables["vision"]
        judge = judge_from(saved)
        if judge is not None:
            self.vision = judge
        self.vision_identity_ = saved["identity"]
        self.hold(base, thresholds)
