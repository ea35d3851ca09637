"""What every detector does: fit on class names, score images, explain, save."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Self

from negrefine.detectors.calibration import Calibrated
from negrefine.detectors.explanation import Explanation, Match, Unfiltered
from negrefine.detectors.html import detector_html
from negrefine.detectors.image_block import ImageBlock, largest
from negrefine.detectors.kept_calibration import restored_calibration
from negrefine.detectors.parameters import (
    Parametrised,
    detector,
    encode_parameter,
    fitted,
    parameter,
)
from negrefine.detectors.saved_form import FACTS, UnitRows, checked, saved_scores
from negrefine.encoders.base import Encoder, FloatArray, check_encoder, gives_patches
from negrefine.errors import BundleError, EncoderError, InputError
from negrefine.labels.class_names import check_class_names
from negrefine.labels.embedding import embed
from negrefine.labels.negatives import Negatives
from negrefine.labels.prompts import MCM_PROMPTS, Prompts
from negrefine.progress import whole_work

if TYPE_CHECKING:
    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.encoders.images import ImageSource


def _check_prompts(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, Prompts):
        raise InputError(f"{name} must be Prompts or None, not {value!r}.")


@detector
class Detector(Parametrised, Calibrated):
    """Zero-shot out-of-distribution detector in the manner of scikit-learn's outlier detectors.

    Scores are larger for in-distribution images. The stages are separate: `encoder.encode_images`
    makes features, which every detector on the same encoder can score.

    A method is a subclass that says what it is in class variables, declares its parameters
    (`negrefine.detectors.parameters`) and computes the parts of its score in `compute_part`.

    Attributes:
        method: Its name on the command line and in files.
        title: Its name in tables.
        paper: Where it was published.
        parts: Names of the components of the score, in order.
        further_parts: Names of components that some detectors of the class have beside these.
        seed_parameter: The parameter that repeated evaluations vary; None without randomness.
        uses_patches: The score needs patch features beside image features.
        uses_no_texts: The method needs an encoder with CLIPN's "no" text tower.
        uses_logit_bias: The method needs an encoder with SigLIP's bias.
        compared: `negrefine evaluate` runs it unless other methods are named.
        image_parts: Those of the parts for which the image itself is looked at, perhaps not each;
            features alone give no score then.
        class_names_: K class names.
        class_features_: float32 (K, d), their prompt ensembles, rows of length one.
        negatives_: The negative labels, None for methods without any.

    Example:
        >>> refine.calibrate(animals, fpr=0.1).predict(["cat.png", "doughnut.png"])
        array([ 1, -1])
    """

    method: ClassVar[str]
    paper: ClassVar[str] = ""
    seed_parameter: ClassVar[str | None] = None
    uses_no_texts: ClassVar[bool] = False
    uses_logit_bias: ClassVar[bool] = False
    compared: ClassVar[bool] = False
    image_parts: ClassVar[tuple[str, ...]] = ()
    default_prompts: ClassVar[Prompts] = MCM_PROMPTS

    encoder: Encoder = field(kw_only=False)
    prompts: Prompts | None = parameter(
        None,
        _check_prompts,
        "Prompt templates instead of the published ones.",
        on_command_line=False,
    )
    class_names_: list[str] = fitted()
    class_features_: FloatArray = fitted()
    negatives_: Negatives | None = fitted(None)

    def fit(self, class_names: Iterable[str], y: object = None, *, progress: bool = False) -> Self:
        """Prepare the detector for K class names; duplicates give a warning. No image is needed.

        `y` is ignored, for scikit-learn. Raises InputError for a class list or parameter that
        cannot be used, or for one class name and a method that compares class names with
        each other, and EncoderError if the encoder lacks what the method needs.
        """
        del y
        self.check_parameters()
        self._check_encoder()
        names = check_class_names(class_names)
        with whole_work("Fitting", lambda: self._count_texts(names), enabled=progress):
            features = self._embed_class_names(names, progress=progress)
            if self._compares_classes() and (features == features[0]).all():
                raise InputError(
                    f"{self.title or self.method} compares class names with each other, so with "
                    f"one name, here {names[0]!r}, its score is the same for every image: give at "
                    "least two different ones, or take a method with negative labels such as "
                    "NegRefine."
                )
            self._fit(names, features, progress=progress)
        self.class_names_ = names
        self.class_features_ = features
        self._forget_calibration()
        return self

    def _embed_class_names(self, class_names: list[str], *, progress: bool) -> FloatArray:
        """Return `class_features_`."""
        return embed(
            self.encoder,
            class_names,
            self.prompts_.class_name,
            description="Encoding class names",
            progress=progress,
        )

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        """Prepare what a method needs beside the classes."""

    def _count_texts(self, class_names: list[str]) -> int:
        """Return how many texts `fit` encodes, for its progress."""
        return len(class_names) * len(self.prompts_.class_name)

    def _compares_classes(self) -> bool:
        """Whether the score is the same for every image if there is one class name only."""
        return False

    @property
    def prompts_(self) -> Prompts:
        """The prompt templates in use."""
        return self.default_prompts if self.prompts is None else self.prompts

    @property
    def logit_scale_(self) -> float:
        """The factor on cosines: the parameter `logit_scale` or else the encoder's own."""
        given = getattr(self, "logit_scale", None)
        scale = self.encoder.logit_scale if given is None else float(given)
        if not (math.isfinite(scale) and scale > 0):
            raise InputError(f"logit_scale must be a positive number, not {scale}.")
        return scale

    def with_params(self, **parameters: Any) -> Self:
        """Return a fitted copy with other parameters of the score and without a threshold.

        The copy shares labels and features with this detector: parameters that only `fit` reads,
        such as `prompts` or `top_fraction`, have no effect on it. Raises InputError for an unknown
        parameter and for a value that cannot be used.
        """
        self._check_fitted()
        other = copy(self).set_params(**parameters)
        other.check_parameters(parameters)
        other._forget_calibration()
        return other

    def explain(self, image: ImageSource, *, top: int = 5, unfiltered: bool = False) -> Explanation:
        """Return what decided the score of one image, with `top` class names and negative labels.

        With `unfiltered`, also score the image as if NegFilter had removed nothing, which costs a
        second score; methods without a filter ignore it.
        """
        self._check_fitted()
        ((features, patches),) = self._encode_blocks([image], 1, progress=False)
        return self.explain_features(features, patches=patches, top=top, unfiltered=unfiltered)[0]

    def explain_features(
        self,
        features: ArrayLike,
        *,
        patches: ArrayLike | None = None,
        top: int = 5,
        unfiltered: bool = False,
    ) -> list[Explanation]:
        """Explain image features (n, d), one explanation for each row."""
        if top < 1:
            raise InputError(f"top must be at least 1, not {top}.")
        parts = self.score_feature_parts(features, patches)
        scores = self.combine(parts)
        classes = self.predicted_classes(features)
        decisions = self.decide(scores, classes)
        array = self._check_features(features)
        images = self._block(array, self._check_patches(patches, len(array)))
        kinds = self._threshold_kinds()
        without: Sequence[Unfiltered | None] = [None] * len(images)
        if unfiltered:
            thresholds = [decision.threshold for decision in decisions]
            without = self._explain_unfiltered(images, top, thresholds)
        explanations = []
        for row, decision in enumerate(decisions):
            own = {name: float(values[row]) for name, values in parts.items()}
            image = images.take(slice(row, row + 1))
            explanations.append(
                Explanation(
                    score=float(scores[row]),
                    parts=own,
                    threshold=decision.threshold,
                    verdict=decision.verdict,
                    classes=[
                        Match(self.class_names_[k], cosine)
                        for k, cosine in largest(image.classes[0], top)
                    ],
                    p_value=decision.p_value,
                    threshold_kind=None if kinds is None else kinds[classes[row]],
                    decided_by=self._decided_by(own, decision.threshold),
                    unfiltered=without[row],
                    **self._explain(image, own, top),
                )
            )
        return explanations

    def _explain(self, image: ImageBlock, parts: dict[str, float], top: int) -> dict[str, Any]:  # noqa: ARG002
        """Return further fields of `Explanation` for a block of one image and its score's parts."""
        return {}

    def _decided_by(self, parts: dict[str, float], threshold: float | None) -> str | None:  # noqa: ARG002
        """Return `Explanation.decided_by` of an image from its score's parts and its threshold."""
        return None

    def _explain_unfiltered(
        self,
        images: ImageBlock,
        top: int,  # noqa: ARG002
        thresholds: Sequence[float | None],  # noqa: ARG002
    ) -> Sequence[Unfiltered | None]:
        """Return `Explanation.unfiltered` of each image, whose verdict is at its threshold."""
        return [None] * len(images)

    def save(self, path: str | os.PathLike[str], *, replacing: str | None = None) -> None:
        """Write the fitted detector to a directory of JSON and safetensors files, atomically.

        Several processes may save to and load from one directory: each load gives one of the
        detectors as a whole. `replacing`, from `negrefine.detectors.bundle.version_of`, is the
        only version that may be replaced, for a detector that was made from the saved one.

        Raises BundleError if the path holds something that is not a saved detector, or another
        version than `replacing`, or for a threshold that is infinite.
        """
        from negrefine.detectors.bundle import write_bundle

        self._check_fitted()
        facts = {**self._facts(), **self._records()}
        arrays = {**self._saved_arrays(), **self._kept_arrays()}
        # An attribute that was set by hand could not be loaded again.
        try:
            FACTS("The detector", facts)
            copy(self)._restore_calibration(facts, arrays)
        except InputError as error:
            raise BundleError(f"The detector cannot be saved: {error}") from error
        write_bundle(
            path,
            facts,
            arrays,
            self._saved_tables(),
            replacing=replacing,
            by_class=self.by_ is not None,
        )

    _repr_html_ = detector_html

    def push_to_hub(
        self, repository: str, *, private: bool = True, revision: str | None = None, **options: Any
    ) -> str:
        """Push the fitted detector with a card to a repository of the Hugging Face hub.

        The repository is made if need be, `private` unless told otherwise; one that is there stays
        as it is. `options` are those of `negrefine.detectors.hub.push_detector`, which has the
        errors too. Returns the address of the commit, "hf://user/name@...", for `load_detector`.
        """
        from negrefine.detectors.hub import push_detector

        return push_detector(self, repository, private=private, revision=revision, **options)

    def identity(self) -> str:
        """Return a SHA-256 (hex) over everything that decides scores and verdicts."""
        self._check_fitted()
        decisive = [self._facts(), self._saved_tables()]
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
        for name, array in sorted(self._saved_arrays().items()):
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()

    def _facts(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "parameters": {
                name: encode_parameter(value)
                for name, value in self.get_params(deep=False).items()
                if name != "encoder"
            },
            "prompts": self.prompts_.as_dict(),
            "encoder": {
                "name": self.encoder.name,
                "options": self.encoder.options,
                "fingerprint": self.encoder.fingerprint,
                "logit_scale": self.encoder.logit_scale,
            },
            "class_names": self.class_names_,
            "offset": None if self.offset_ is None else float(self.offset_),
            **self._calibration_facts(),
        }

    def _records(self) -> dict[str, Any]:
        """Return what detector.json says beside `_facts`, which decides no score."""
        return {}

    def _restore_records(self, manifest: Mapping[str, Any]) -> None:
        """Take up `_records`; InputError if they are not what they must be."""

    def _saved_arrays(self) -> Arrays:
        arrays: Arrays = {"class_features": self.class_features_}
        if self.calibration_scores_ is not None:
            arrays["calibration_scores"] = self.calibration_scores_
            if self.calibration_classes_ is not None:
                arrays["calibration_classes"] = self.calibration_classes_.astype(np.int64)
        return arrays

    def _kept_arrays(self) -> Arrays:
        """Return what is saved to save time, such as embeddings, and decides no score."""
        return {}

    def _saved_tables(self) -> Tables:
        return {}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        """Take up what was saved of arrays and tables; ValueError if it does not fit."""
        del tables
        # Encoders of one's own need not say what d is.
        dim = getattr(self.encoder, "dim", None)
        rows = UnitRows(len(class_names), "class names", dim if isinstance(dim, int) else None)
        self.class_names_ = class_names
        self.class_features_ = checked(arrays, "class_features", rows)

    def _calibration_facts(self) -> dict[str, Any]:
        """Return what the threshold was asked to be; nothing of one that was set by hand."""
        if self.fpr_ is None:
            return {}
        return {"calibration": {"fpr": self.fpr_, "delta": self.delta_, "by": self.by_}}

    def _restore_calibration(self, facts: Mapping[str, Any], arrays: Arrays) -> None:
        """Take up what `_facts` and `_saved_arrays` say of thresholds; InputError if they differ.

        Thresholds by class are computed again, so that they are those of the saved scores.
        """
        self._forget_calibration()
        if facts.get("calibration") is not None:
            kept = restored_calibration(facts, arrays)
            self._set_calibration(kept.scores, kept.classes, kept.fpr, kept.delta, kept.by)
            return
        self.offset_ = facts["offset"]
        scores, classes = saved_scores(arrays, len(self.class_names_))
        self.calibration_scores_, self.calibration_classes_ = scores, classes

    def _check_encoder(self) -> None:
        check_encoder(self.encoder)
        if self.uses_patches and not gives_patches(self.encoder):
            raise EncoderError(
                f"The encoder {self.encoder.name!r} gives no patch features, which "
                f"{self.title or self.method} needs: use load_encoder with a CLIP model that has a "
                "vision transformer with a class token."
            )
        if self.uses_logit_bias and getattr(self.encoder, "logit_bias", None) is None:
            raise InputError(
                f"The encoder {self.encoder.name!r} has no logit_bias, which "
                f"{self.title or self.method} needs: use one that was trained with sigmoids, such "
                "as 'google/siglip2-base-patch16-224'."
            )
        if self.uses_no_texts and not hasattr(self.encoder, "encode_texts_no"):
            raise InputError(
                f"The encoder {self.encoder.name!r} has no 'no' text tower, which "
                f"{self.title or self.method} needs: convert a CLIPN checkpoint with 'negrefine "
                "convert-clipn' and load the result."
            )
