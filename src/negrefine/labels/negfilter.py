"""NegFilter: removing negative labels that are proper nouns or kinds of a class.

NegRefine (ICCV 2025, arXiv 2507.09795), section on NegFilter: a judge answers two yes/no questions
about every mined label, "is it a proper noun" and "is it a subcategory of this class name" for the
class names nearest to it, and a yes removes the label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from negrefine.encoders.base import Encoder
from negrefine.errors import InputError
from negrefine.labels.judges import Answer, Judge, as_answers
from negrefine.labels.mining import NegativeLabel
from negrefine.labels.prompts import embed
from negrefine.progress import progress_bar

PROPER_NOUN = "proper_noun"
SUBCATEGORY = "subcategory"
FILTERS = (PROPER_NOUN, SUBCATEGORY)


@dataclass(frozen=True, slots=True)
class Question:
    """One line of the audit trail.

    Attributes:
        text: The label that was asked about.
        kind: "proper_noun" or "subcategory".
        class_name: The class name in question, None for proper nouns.
        yes: The answer; None if the judge could not decide, which keeps the label.
        reason: Why, in the judge's words.
    """

    text: str
    kind: str
    class_name: str | None
    yes: bool | None
    reason: str


def clean_word(text: str) -> str | None:
    """Keep letters, "_", "-" and spaces; None if two characters or fewer are left."""
    cleaned = "".join(c for c in text if c.isalpha() or c in "_- ")
    return cleaned if len(cleaned) > 2 else None


def clean_labels(labels: Sequence[NegativeLabel]) -> list[NegativeLabel]:
    """Clean the texts of labels; what is too short or a repetition is marked as removed.

    Nouns and adjectives are compared among themselves, as published; the first one stays.
    """
    seen: set[tuple[str, str]] = set()
    cleaned = []
    for mined in labels:
        label = replace(mined, text=mined.mined_text, kept=True, reason="")
        text = clean_word(label.text)
        if text is None:
            cleaned.append(replace(label, kept=False, reason="shorter than three letters"))
        elif (label.pos, text) in seen:
            cleaned.append(replace(label, text=text, kept=False, reason=f"repeats {text!r}"))
        else:
            seen.add((label.pos, text))
            cleaned.append(replace(label, text=text))
    return cleaned


def nearest_class_names(
    encoder: Encoder,
    texts: Sequence[str],
    class_names: Sequence[str],
    n_candidates: int,
    *,
    progress: bool = False,
) -> list[list[str]]:
    """Return for each text the min(n_candidates, K) most similar class names, best first.

    Both sides are encoded as bare strings, without a template, as published. Ties keep the order
    of the class names.
    """
    label_features = embed(
        encoder, texts, ("{}",), description="Finding nearest classes", progress=progress
    )
    class_features = embed(encoder, class_names, ("{}",)).astype(np.float64)
    cosines = label_features.astype(np.float64) @ class_features.T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :n_candidates]
    return [[class_names[k] for k in row] for row in order]


def refine(
    labels: Sequence[NegativeLabel],
    candidates: Sequence[Sequence[str]],
    judge: Judge,
    *,
    filters: Collection[str] = FILTERS,
    keep: Iterable[str] = (),
    drop: Iterable[str] = (),
    progress: bool = False,
) -> tuple[list[NegativeLabel], list[Question]]:
    """Ask `judge` about every label that is still kept.

    All words get the proper-noun question first; then the class names are asked about rank by rank,
    and a word leaves at its first yes. The kept set is the one of asking word by word. A class name
    equal to the word removes it without a question.

    Args:
        labels: M labels, cleaned.
        candidates: For each label the class names to ask about, in order.
        judge: Anything with `is_proper_noun(words)` and `is_subcategory(pairs)`.
        filters: Which of "proper_noun" and "subcategory" to ask.
        keep: Words or texts that stay whatever the judge says.
        drop: Words or texts that go without a question; `keep` wins.
        progress: Draw a progress bar on a terminal.

    Returns:
        The M labels with `kept` and `reason` set, in the same order, and the audit trail by label.

    Raises:
        InputError: Unknown filter names, or a judge that gives something else than one answer
            for each question.
    """
    check_filters(filters)
    result = apply_user_lists(labels, keep, drop)
    open_ = [i for i, label in enumerate(result) if label.kept and not label.reason]
    trail: list[list[Question]] = [[] for _ in result]

    def settle(i: int, kind: str, class_name: str | None, answer: Answer) -> None:
        text = result[i].text
        trail[i].append(Question(text, kind, class_name, answer.yes, answer.reason))
        if answer.yes:
            fact = "proper noun" if class_name is None else f"subcategory of {class_name!r}"
            reason = f"{fact}: {answer.reason}" if answer.reason else fact
            result[i] = replace(result[i], kept=False, reason=reason)

    ranks = max((len(candidates[i]) for i in open_), default=0)
    rounds = (PROPER_NOUN in filters) + ranks * (SUBCATEGORY in filters)
    with progress_bar("Filtering negative labels", rounds, enabled=progress) as advance:
        if PROPER_NOUN in filters and open_:
            answers = as_answers(
                judge.is_proper_noun([result[i].text for i in open_]), len(open_), judge
            )
            for i, answer in zip(open_, answers, strict=True):
                settle(i, PROPER_NOUN, None, answer)
            advance()
        if SUBCATEGORY in filters:
            for rank in range(ranks):
                asked = []
                for i in open_:
                    if not result[i].kept or rank >= len(candidates[i]):
                        continue
                    if candidates[i][rank] == result[i].text:
                        result[i] = replace(result[i], kept=False, reason="is a class name")
                    else:
                        asked.append(i)
                pairs = [(result[i].text, candidates[i][rank]) for i in asked]
                answers = (
                    as_answers(judge.is_subcategory(pairs), len(pairs), judge) if pairs else []
                )
                for i, answer in zip(asked, answers, strict=True):
                    settle(i, SUBCATEGORY, candidates[i][rank], answer)
                advance()
    return result, [question for questions in trail for question in questions]


def check_filters(filters: Collection[str]) -> None:
    """Raise InputError if there is something else than known filters among them."""
    if isinstance(filters, str):
        raise InputError(f"filters must be a list such as [{filters!r}], not one string.")
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise InputError(f"Unknown filter {unknown[0]!r}: choose from {list(FILTERS)}.")


def _word_set(parameter: str, words: Iterable[str]) -> set[str]:
    if isinstance(words, str):
        raise InputError(f"{parameter} must be a list such as [{words!r}], not one string.")
    return set(words)


def apply_user_lists(
    labels: Sequence[NegativeLabel], keep: Iterable[str], drop: Iterable[str]
) -> list[NegativeLabel]:
    """Return the labels with those on the user's lists kept or removed; `keep` wins."""
    kept, dropped = _word_set("keep", keep), _word_set("drop", drop)
    result = []
    for label in labels:
        names = {label.word, label.text}
        if names & kept:
            result.append(replace(label, kept=True, reason="on the keep list"))
        elif label.kept and names & dropped:
            result.append(replace(label, kept=False, reason="on the drop list"))
        else:
            result.append(label)
    return result
