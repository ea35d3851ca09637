"""What detectors on negative labels share: mining, groups, explanations, saved labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from negrefine.constraints import POSITIVE_OR_NONE, SEED, Boolean, Strings, Whole
from negrefine.detectors.base import Detector
from negrefine.detectors.explanation import Match
from negrefine.detectors.image_block import ImageBlock, largest
from negrefine.detectors.parameters import Unsaved, detector, fitted, parameter
from negrefine.detectors.saved_form import UnitRows, checked
from negrefine.detectors.scores import group_negatives, neglabel_score
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.labels.mining import CONSTRAINTS, MiningRule, count_candidates, mine
from negrefine.labels.negatives import NegativeLabel, Negatives

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.labels.lexicon import Lexicon
    from negrefine.labels.rarer_words import LeftOut


def _check_lexicon(name: str, value: Any) -> None:
    if isinstance(value, Unsaved):
        raise value.error()
    if value is not None and not hasattr(value, "select"):
        raise InputError(f"{name} must be a Lexicon or None, not {value!r}.")


def _check_files(name: str, value: Any) -> None:
    if not isinstance(value, str):
        Strings()(name, value)


@detector
class LabelDetector(Detector):
    """A detector with negative labels, wherever they come from, which it saves and explains.

    Attributes:
        negatives_: The labels, kept and removed.
    """

    negatives_: Negatives = fitted()

    @property
    def negative_labels_(self) -> list[NegativeLabel]:
        """All mined labels, kept and removed, nouns then adjectives, least similar first."""
        return list(self.negatives_.labels)

    @property
    def kept_negative_labels_(self) -> list[NegativeLabel]:
        """The M labels that take part in scores, one for each row of `negative_features_`."""
        return list(self.negatives_.kept)

    @property
    def negative_features_(self) -> FloatArray:
        """float32 (M, d), prompt ensembles of the kept labels."""
        return self.negatives_.kept_features

    def _hold(self, negatives: Negatives, class_names: list[str]) -> None:
        """Take negative labels, and make what scoring needs of them and the class names."""
        del class_names
        self.negatives_ = negatives

    def _explain(self, image: ImageBlock, parts: dict[str, float], top: int) -> dict[str, Any]:
        del parts
        return {"negatives": label_matches(self.negatives_.kept, image.negatives[0], top)}

    def _saved_arrays(self) -> Arrays:
        return {**super()._saved_arrays(), "negative_features": self.negatives_.features}

    def _saved_tables(self) -> Tables:
        return {
            **super()._saved_tables(),
            "negative_labels": [label.as_row() for label in self.negatives_.labels],
        }

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        labels = tuple(NegativeLabel.from_row(row) for row in tables["negative_labels"])
        rows = UnitRows(len(labels), "negative labels", self.class_features_.shape[1])
        self._hold(Negatives(labels, checked(arrays, "negative_features", rows)), class_names)


@detector
class MinedLabelDetector(LabelDetector):
    """A detector that mines its negative labels.

    Attributes:
        negatives_: The mined labels, nouns then adjectives, least similar first.
        left_out_: What was not mined for being rare; None if nothing was.
    """

    official_files: ClassVar[str]
    clean_underscores: ClassVar[bool] = True

    lexicon: Lexicon | Unsaved | None = parameter(
        None,
        _check_lexicon,
        "Words to mine; None is the shipped WordNet 3.1.",
        on_command_line=False,
    )
    lexicon_files: str | Sequence[str] = parameter(
        "official",
        _check_files,
        "'official' (the files of the published method: no animals, no food), another preset of "
        "Lexicon.select ('full', 'official-neglabel', 'official-csp'), or lexicographer files, "
        "as a list or separated by commas.",
    )
    max_words: int | None = parameter(
        None,
        Whole(1, optional=True),
        "Mine only this many of WordNet's words, the most frequent ones (None: all): faster, and "
        "other labels and scores, as the output says.",
    )
    top_fraction: float = parameter(
        0.15, CONSTRAINTS["top_fraction"], "Fraction of nouns, and of adjectives, to mine."
    )
    quantile: float = parameter(
        0.95, CONSTRAINTS["quantile"], "Quantile over the classes by which words are ranked."
    )
    exclude_class_names: str = parameter(
        "off",
        CONSTRAINTS["exclude_class_names"],
        "Keep class names out of the negative labels: 'exact', 'casefold' or 'off'.",
    )
    similarity_cap: float | None = parameter(
        None,
        CONSTRAINTS["similarity_cap"],
        "Rank a word with a cosine above this last; None for no cap.",
    )
    left_out_: LeftOut | None = fitted(None)

    def check_parameters(self, names: Any = None) -> None:
        """Check the parameters, and whether the lexicon has the files."""
        super().check_parameters(names)
        if names is None:
            # Unknown files are an error before anything is encoded.
            self.selected_lexicon()

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        self._hold(self._negatives(class_names, class_features, progress=progress), class_names)

    def _negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> Negatives:
        """Mine the negative labels of a class list."""
        words, self.left_out_ = self._bounded()
        return mine(
            self.encoder,
            words,
            class_names,
            class_features,
            self.prompts_,
            self._rule(),
            seed=int(getattr(self, "seed", 0)),
            progress=progress,
        )

    def _count_texts(self, class_names: list[str]) -> int:
        counts = count_candidates(self.selected_lexicon(), class_names, self._rule())
        of_nouns = counts["noun"] * len(self.prompts_.noun)
        of_adjectives = counts["adj"] * len(self.prompts_.adjective)
        return super()._count_texts(class_names) + of_nouns + of_adjectives

    def _rule(self) -> MiningRule:
        return MiningRule(
            superclasses=tuple(getattr(self, "superclasses", ())),
            clean_underscores=self.clean_underscores,
            exclude_class_names=self.exclude_class_names,
            quantile=self.quantile,
            similarity_cap=self.similarity_cap,
            top_fraction=self.top_fraction,
        )

    def selected_lexicon(self) -> Lexicon:
        """Return the words to mine: those of `lexicon_files` in `lexicon`, at most `max_words`."""
        return self._bounded()[0]

    def _bounded(self) -> tuple[Lexicon, LeftOut | None]:
        from negrefine.labels.lexicon import Lexicon
        from negrefine.labels.rarer_words import bounded

        lexicon = self.lexicon if isinstance(self.lexicon, Lexicon) else Lexicon.wordnet()
        files = self.lexicon_files
        official = isinstance(files, str) and files == "official"
        return bounded(lexicon, self.official_files if official else files, self.max_words)

    def _facts(self) -> dict[str, Any]:
        left_out = {} if self.left_out_ is None else {"left_out": self.left_out_.as_dict()}
        return {**super()._facts(), **left_out}


@detector
class NegativeLabelDetector(MinedLabelDetector):
    """A detector whose score compares the class names with mined negative labels, by groups."""

    parts: ClassVar[tuple[str, ...]] = ("neglabel",)

    n_groups: int = parameter(
        100, Whole(1), "Groups of negative labels over which the softmax is averaged."
    )
    group_fuse_num: int | None = parameter(
        None,
        Whole(1, optional=True),
        "Average only the first groups; the official code averages one fewer than this.",
    )
    seed: int = parameter(0, SEED, "Seed of the method's random draws.")
    logit_scale: float | None = parameter(
        None,
        POSITIVE_OR_NONE,
        "Factor on cosines; None is the encoder's own (100 for OpenAI's CLIP).",
    )
    official: bool = parameter(
        True,
        Boolean(),
        "The released code (True) leaves out the last labels that fill no group; the paper's "
        "formula (False, --all-labels) uses every label.",
        flag="--all-labels",
    )

    @property
    def groups_(self) -> Tensor:
        """int64 (G, W), the rows of `negative_features_` in each group; -1 fills up."""
        groups = group_negatives(
            self.negatives_.n_mined,
            self.n_groups,
            seed=int(getattr(self, str(self.seed_parameter))),
            official=self.official,
        )
        if self.group_fuse_num is None or self.n_groups == 1:
            return groups
        return groups[: self.group_fuse_num - 1 if self.official else self.group_fuse_num]

    def check_parameters(self, names: Any = None) -> None:
        """Check the parameters, and whether the lexicon has the files."""
        super().check_parameters(names)
        if self.official and self.group_fuse_num is not None:
            Whole(2)("group_fuse_num", self.group_fuse_num)

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        super()._fit(class_names, class_features, progress=progress)
        if self.groups_.numel() == 0:
            warnings.warn(
                f"{len(self.negatives_.kept)} negative labels cannot fill {self.n_groups} groups "
                "and the official rule leaves them all out: every NegLabel score is 1; lower "
                "n_groups or set official=False.",
                stacklevel=4,
            )

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return S_NegLabel, the mass on the classes averaged over groups."""
        return neglabel_score(images.classes, images.negatives, self.groups_, self.logit_scale_)


def label_matches(labels: Sequence[NegativeLabel], similarity: Tensor, top: int) -> list[Match]:
    """Return the labels with the largest cosines (m,), with their definitions."""
    return [
        Match(labels[i].text, cosine, labels[i].lexname, _definition(labels[i]))
        for i, cosine in largest(similarity, top)
    ]


def _definition(label: NegativeLabel) -> str:
    """Return the commonest meaning of the label's word in its lexicographer file, or ""."""
    from negrefine.labels.wordnet import WordNet

    for synset in WordNet.load().synsets(label.word, pos=label.pos):
        if synset.lexname == label.lexname:
            return synset.definition
    return ""
