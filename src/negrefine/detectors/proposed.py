"""Proposed negative labels: from a proposer to labels of a detector, and what became of them.

Proposals pass EOE's overlap rules (ICML 2024, arXiv 2406.00806), then NegFilter
(`proposed_filter`). They stand behind the mined labels of a detector's `Negatives`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from negrefine.detectors.negfilter import Question
from negrefine.detectors.parameters import Unsaved
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.errors import InputError
from negrefine.files.records import as_row, from_row
from negrefine.labels.embedding import embed
from negrefine.labels.negatives import NegativeLabel, Negatives, Proposal
from negrefine.proposers.base import Proposer, ask_far, ask_similar
from negrefine.proposers.overlap import OverlapRules

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.image_block import ImageBlock

PROPOSED = "proposed"
"""What stands for a lexicographer file of labels that were not mined, and the kind of a line of the
audit trail."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """One line of the audit trail: a proposal, and what became of it.

    Attributes:
        text: As it was proposed; labels are in lower case.
        class_name: The class it was proposed for, None for one that is like no class.
        by: The proposer.
        kept: It takes part in scores.
        reason: Why it stayed or went.
    """

    text: str
    class_name: str | None
    by: str
    kept: bool
    reason: str

    def as_row(self) -> dict[str, Any]:
        """Return the line as plain data, with its kind."""
        return {"kind": PROPOSED, **as_row(self)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Proposed:
        """Rebuild a line from `as_row`; ValueError if the row is something else."""
        return from_row(cls, {name: value for name, value in row.items() if name != "kind"})


def check_proposer(name: str, proposer: object) -> None:
    """Raise InputError for what is neither a proposer, "wordnet" nor None."""
    if isinstance(proposer, Unsaved):
        raise proposer.error()
    methods = (getattr(proposer, each, None) for each in ("propose_similar", "propose_far"))
    usable = all(map(callable, methods)) and not isinstance(proposer, (str, type))
    if not (proposer is None or proposer == "wordnet" or usable):
        raise InputError(
            f"{name} must be 'wordnet', None or an object with the methods propose_similar and "
            f"propose_far, not {proposer!r}."
        )
    # It stands beside each label, in saved files too.
    if usable and not isinstance(getattr(proposer, "name", None), str):
        raise InputError(f"{name} must have a name, a text: {proposer!r} has none.")


def resolve_proposer(proposer: Proposer | Unsaved | str) -> Proposer:
    """Return the proposer that a parameter means."""
    if isinstance(proposer, Unsaved):
        raise proposer.error()
    if isinstance(proposer, str):
        from negrefine.proposers.wordnet import WordNetProposer

        return WordNetProposer()
    return proposer


def propose(
    proposer: Proposer, class_names: Sequence[str], n: int, *, far: bool = False
) -> list[Proposed]:
    """Return the proposals of a proposer, of which the overlap rules, and repetitions, leave some.

    With `far`, n names like no class, else n for each class. A name proposed for several classes
    is that of the first. Labels are the kept ones in lower case.
    """
    asked: list[tuple[str, str | None]]
    if far:
        asked = [(text, None) for text in ask_far(proposer, class_names, n)]
    else:
        found = ask_similar(proposer, class_names, n)
        asked = [(text, name) for name, texts in found.items() for text in texts]
    rules = OverlapRules(class_names)
    first: dict[str, str | None] = {}
    proposals = []
    for text, name in asked:
        lowered = text.lower()
        objection = rules.objection(text, similar=not far)
        if not objection and lowered in first:
            objection = f"was proposed for {first[lowered]!r} already"
        elif not objection:
            first[lowered] = name
        reason = objection or "passed the overlap rules"
        proposals.append(Proposed(text, name, proposer.name, not objection, reason))
    return proposals


def propose_labels(
    mined: Negatives,
    proposer: Proposer | Unsaved | str | None,
    class_names: Sequence[str],
    class_features: FloatArray,
    n: int,
    *,
    encoder: Encoder,
    templates: Sequence[str],
    progress: bool = False,
) -> tuple[Negatives, list[Proposed]]:
    """Return mined labels with those that a proposer adds, and all its proposals; None adds none.

    Raises InputError as the proposer.
    """
    if proposer is None:
        return mined, []
    proposals = propose(resolve_proposer(proposer), class_names, n)
    if not any(each.kept for each in proposals):
        warnings.warn(
            f"{_none_left(proposals)}: the scores are those without proposals.",
            stacklevel=2,
        )
    return with_proposed(
        mined, proposals, class_features, encoder, templates, progress=progress
    ), proposals


def _none_left(proposals: Sequence[Proposed]) -> str:
    if not proposals:
        return "Nothing was proposed"
    return f"The overlap rules leave none of {len(proposals)} proposed labels"


def with_proposed(
    mined: Negatives,
    proposals: Sequence[Proposed],
    class_features: FloatArray,
    encoder: Encoder,
    templates: Sequence[str],
    *,
    progress: bool = False,
) -> Negatives:
    """Return mined labels with the kept proposals as nouns behind them.

    A proposal that is a mined noun already is no second label: that label is marked as proposed,
    too. The similarity of a proposed label is its largest cosine with a class name.
    """
    kept = {p.text.lower(): Proposal(p.by, p.class_name) for p in proposals if p.kept}
    labels = []
    for label in mined.labels:
        proposal = kept.pop(label.text.lower(), None) if label.pos == "noun" else None
        labels.append(
            label if proposal is None else replace(label, proposal=replace(proposal, mined=True))
        )
    texts = list(kept)
    features = embed(
        encoder, texts, templates, description="Encoding proposed labels", progress=progress
    )
    nearest = (features.astype(np.float64) @ class_features.astype(np.float64).T).max(axis=1)
    labels += [
        NegativeLabel(text, text, text, "noun", PROPOSED, float(similar), proposal=kept[text])
        for text, similar in zip(texts, nearest, strict=True)
    ]
    joined = np.concatenate([mined.features, features]) if texts else mined.features
    return Negatives(tuple(labels), joined)


def outcomes(
    proposals: Sequence[Proposed], negatives: Negatives, *, filtered: bool
) -> list[Proposed]:
    """Return the proposals with what became of them in the end.

    Those that the overlap rules removed, or that repeat another, stay as they are.
    """
    labels = {
        label.mined_text.lower(): label for label in negatives.labels if label.proposal is not None
    }
    passed = "passed the overlap rules" + (" and NegFilter" if filtered else "")
    settled = []
    for each in proposals:
        label = labels.get(each.text.lower())
        proposal = None if label is None else label.proposal
        if label is not None and proposal is not None and proposal.class_name == each.class_name:
            reason = label.reason or (f"{passed}; mined too" if proposal.mined else passed)
            each = replace(each, kept=label.kept, reason=reason)  # noqa: PLW2901
        settled.append(each)
    return settled


def only_proposed(
    proposals: Sequence[Proposed],
    class_features: FloatArray,
    encoder: Encoder,
    templates: Sequence[str],
    *,
    progress: bool = False,
) -> Negatives:
    """Return the kept proposals as negative labels; InputError if there are none."""
    if not any(each.kept for each in proposals):
        raise InputError(
            f"{_none_left(proposals)}: give another proposer, or more proposals for each class."
        )
    nothing = Negatives((), class_features[:0])
    return with_proposed(nothing, proposals, class_features, encoder, templates, progress=progress)


def facts_of(facts: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the facts of a detector, without these parameters if it asks no proposer.

    What was saved before there were proposers stays what it was, to the byte.
    """
    if facts["parameters"].get("propose") is None:
        kept = {n: value for n, value in facts["parameters"].items() if n not in names}
        return {**facts, "parameters": kept}
    return facts


def read_proposals(rows: Iterable[dict[str, Any]]) -> list[Proposed]:
    """Return the proposals among the lines of a saved audit trail."""
    return [Proposed.from_row(row) for row in rows if row.get("kind") == PROPOSED]


def read_questions(rows: Iterable[dict[str, Any]]) -> list[Question]:
    """Return the questions among the lines of a saved audit trail."""
    return [Question.from_row(row) for row in rows if row.get("kind") != PROPOSED]


def near_columns(images: ImageBlock, negatives: Negatives) -> Tensor:
    """Return the cosines of images with the P proposed labels, float64 (n, P)."""
    import torch

    return images.negatives.index_select(-1, torch.tensor(negatives.near))


def refuse_proposed(negatives: Negatives | None, who: str) -> None:
    """Raise InputError if there are proposed labels among those of a detector."""
    if negatives is not None and any(each.proposal is not None for each in negatives.labels):
        raise InputError(
            f"{who} has no rule for proposed labels, which the base detector has: fit the base "
            "without propose."
        )
