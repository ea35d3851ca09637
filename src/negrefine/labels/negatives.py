"""Negative labels: what mining found, what NegFilter removed and why, and their features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from negrefine.encoders.base import FloatArray
from negrefine.files.records import as_row, from_row

if TYPE_CHECKING:
    from torch import Tensor


class Cause(str, Enum):
    """Why a label was removed."""

    TOO_SHORT = "too_short"
    REPEATED = "repeated"
    CLASS_NAME = "class_name"
    PROPER_NOUN = "proper_noun"
    SUBCATEGORY = "subcategory"
    DROP_LIST = "drop_list"


_SENTENCES = {
    Cause.TOO_SHORT: "shorter than three letters",
    Cause.REPEATED: "repeats {!r}",
    Cause.CLASS_NAME: "is a class name",
    Cause.PROPER_NOUN: "proper noun",
    Cause.SUBCATEGORY: "subcategory of {!r}",
    Cause.DROP_LIST: "on the drop list",
}
_KINDS = {Cause.REPEATED: "repeats another label", Cause.SUBCATEGORY: "subcategory of a class"}


@dataclass(frozen=True, slots=True)
class Removal:
    """Why a label takes no part in scores.

    Attributes:
        cause: The rule.
        reference: The class name or label it refers to, "" where there is none.
        detail: The judge's reason, "" where there is none.
    """

    cause: Cause
    reference: str = ""
    detail: str = ""

    def __str__(self) -> str:
        text = _SENTENCES[self.cause].format(self.reference)
        return f"{text}: {self.detail}" if self.detail else text

    @property
    def kind(self) -> str:
        """The cause in words, without the reference: for counting."""
        return _KINDS.get(self.cause, _SENTENCES[self.cause])


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where a label comes from that was proposed.

    Attributes:
        by: The name of the proposer.
        class_name: The class it was proposed for, None for one that is like no class.
        mined: Mining found the label too, so it is in a mined group as well.
    """

    by: str
    class_name: str | None = None
    mined: bool = False

    def __str__(self) -> str:
        text = f"proposed by {self.by}"
        text += f" for {self.class_name!r}" if self.class_name is not None else ""
        return f"{text}, also mined" if self.mined else text


@dataclass(frozen=True, slots=True)
class NegativeLabel:
    """A mined word, or a proposed name.

    Attributes:
        word: The lexicon's entry.
        text: What the prompts contain: the word, or an adjective phrase like "gooey landscape";
            NegFilter strips it of digits and punctuation.
        mined_text: The text before NegFilter.
        pos: "noun" or "adj".
        lexname: Lexicographer file, for example "noun.plant"; "proposed" where it was not mined.
        similarity: Statistic of the cosines with the class names by which the word was chosen.
        removed_by: Why NegFilter removed the label; None if it takes part in scores.
        pinned: The user's keep list protects the label from NegFilter.
        proposal: Who proposed the label; None for one that was only mined.
    """

    word: str
    text: str
    mined_text: str
    pos: str
    lexname: str
    similarity: float
    removed_by: Removal | None = None
    pinned: bool = False
    proposal: Proposal | None = None

    @property
    def kept(self) -> bool:
        """Whether the label takes part in scores."""
        return self.removed_by is None

    @property
    def reason(self) -> str:
        """Why the label was removed, or why it was kept against the filter; otherwise empty."""
        if self.removed_by is not None:
            return str(self.removed_by)
        return "on the keep list" if self.pinned else ""

    def as_row(self) -> dict[str, Any]:
        """Return the label as plain data, for JSON; only proposed ones have a "proposal"."""
        row = as_row(self)
        if self.proposal is None:
            del row["proposal"]
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> NegativeLabel:
        """Rebuild a label from `as_row`; ValueError if the row is something else."""
        label = from_row(cls, row)
        if label.pos not in {"noun", "adj"}:
            raise ValueError(f"the part of speech of a label is {label.pos!r}")
        return label


@dataclass(frozen=True, eq=False)
class Negatives:
    """The negative labels of a class list, kept and removed, with their features. Immutable.

    `mine` makes one and `refine` turns it into another.

    Attributes:
        labels: All mined labels, nouns then adjectives, least similar first; after them those that
            were only proposed.
        features: float32 (len(labels), d), prompt ensembles of their texts, rows of length one.
    """

    labels: tuple[NegativeLabel, ...]
    features: FloatArray

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.features):
            raise ValueError("negative labels and their features differ in number")
        # The groups of mined labels are counted from the first.
        proposed = [each.proposal is not None and not each.proposal.mined for each in self.labels]
        if proposed != sorted(proposed):
            raise ValueError("a negative label that was only proposed stands before a mined one")

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave out what is derived."""
        return Negatives, (self.labels, self.features)

    @cached_property
    def kept(self) -> tuple[NegativeLabel, ...]:
        """The M labels that take part in scores."""
        return tuple(label for label in self.labels if label.kept)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The texts of the M kept labels."""
        return tuple(label.text for label in self.kept)

    @cached_property
    def n_mined(self) -> int:
        """How many of the M kept labels were mined; they come first."""
        return sum(each.proposal is None or each.proposal.mined for each in self.kept)

    @cached_property
    def near(self) -> tuple[int, ...]:
        """The places among the M kept labels of those that were proposed, mined too or not."""
        return tuple(i for i, each in enumerate(self.kept) if each.proposal is not None)

    @cached_property
    def kept_features(self) -> FloatArray:
        """float32 (M, d), the features of the kept labels."""
        kept = [label.kept for label in self.labels]
        # All of WordNet takes 140 MB at d = 512: not twice if nothing was removed.
        return self.features if all(kept) else self.features[kept]

    @cached_property
    def matrix(self) -> Tensor:
        """float64 (d, M), `kept_features` transposed: converted once, not for every batch."""
        import torch

        return torch.from_numpy(self.kept_features).double().T

    @cached_property
    def removed(self) -> tuple[tuple[NegativeLabel, ...], FloatArray]:
        """The removed labels and their features."""
        places = [i for i, label in enumerate(self.labels) if not label.kept]
        return tuple(self.labels[i] for i in places), self.features[places]


def removal_counts(labels: Sequence[NegativeLabel]) -> dict[str, int]:
    """Return `Removal.kind` to the number of labels removed for it, the most frequent first."""
    kinds = (label.removed_by.kind for label in labels if label.removed_by is not None)
    return dict(Counter(kinds).most_common())
