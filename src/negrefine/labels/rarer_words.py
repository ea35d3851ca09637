"""What a lexicon that is bounded by frequency leaves out, for whoever reads its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from negrefine.constraints import Constraint, Fields, Text, Whole, check_all

if TYPE_CHECKING:
    from negrefine.labels.lexicon import Lexicon

_CONSTRAINTS: Mapping[str, Constraint] = {"n": Whole(1), "of": Whole(2), "rule": Text()}
_FIELDS = Fields(_CONSTRAINTS)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Words that were not mined because they are rarer than others.

    Attributes:
        n: How many of them there are.
        of: The words of the whole lexicon, in the selected files.
        rule: What left them out, such as "max_words 20000".
    """

    n: int
    of: int
    rule: str

    def __post_init__(self) -> None:
        check_all(self, _CONSTRAINTS)

    def __str__(self) -> str:
        return (
            f"Left out {self.n:,} rarer words of {self.of:,} ({self.rule}): scores are not those "
            "of the full lexicon."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, name: str, value: Any) -> LeftOut:
        """Rebuild what `as_dict` gave; InputError, which names it, for anything else."""
        _FIELDS(name, value)
        return cls(**{field: value[field] for field in _CONSTRAINTS})


def bounded(
    lexicon: Lexicon, lexicon_files: Any, max_words: int | None
) -> tuple[Lexicon, LeftOut | None]:
    """Return the words to mine of some files, and what is left out of them for being rarer.

    Raises InputError as `Lexicon.select` and `Lexicon.most_frequent`.
    """
    chosen = lexicon.select(lexicon_files)
    if max_words is not None:
        chosen = chosen.most_frequent(max_words)
    rules = {"min_frequency": lexicon.min_frequency or None, "max_words": max_words}
    given = [f"{name} {value}" for name, value in rules.items() if value is not None]
    if not given:
        return chosen, None
    from negrefine.labels.lexicon import Lexicon

    full = (Lexicon.wordnet() if lexicon.min_frequency else lexicon).select(lexicon_files)
    n_words, n_all = len(chosen.words()), len(full.words())
    return chosen, LeftOut(n_all - n_words, n_all, ", ".join(given)) if n_words < n_all else None


def read_left_out(facts: Mapping[str, Any]) -> LeftOut | None:
    """Return what detector.json says was left out, None if nothing was; InputError if it cannot."""
    value = facts.get("left_out")
    return None if value is None else LeftOut.from_dict("left_out", value)
