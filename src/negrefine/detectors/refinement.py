"""Refining mined negative labels with NegFilter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from negrefine.detectors.negfilter import (
    FilterRules,
    Question,
    apply_user_lists,
    clean_labels,
    filter_labels,
)
from negrefine.detectors.saved_parameters import Unsaved
from negrefine.encoders.base import Encoder
from negrefine.errors import InputError
from negrefine.judges.base import Judge
from negrefine.labels.embedding import embed
from negrefine.labels.negatives import NegativeLabel, Negatives
from negrefine.labels.prompts import Prompts


def refine(
    mined: Negatives,
    class_names: Sequence[str],
    judge: Judge | None,
    rules: FilterRules,
    *,
    encoder: Encoder,
    prompts: Prompts,
    progress: bool = False,
) -> tuple[Negatives, list[Question]]:
    """Clean mined labels and remove those that a judge calls proper nouns or kinds of a class.

    Args:
        mined: From `mine`.
        class_names: K names.
        judge: None asks nothing: only the user's lists apply, and texts stay as mined.
        rules: What to ask.
        encoder: Finds the nearest class names, and encodes the texts that cleaning changed.
        prompts: Templates of nouns and adjectives.
        progress: Draw progress bars on a terminal.

    Returns:
        The negatives with `removed_by` set, and the audit trail.

    Raises:
        InputError: As `filter_labels`, or nothing is left.
    """
    trail: list[Question] = []
    if judge is None:
        labels = apply_user_lists(mined.labels, rules.keep, rules.drop)
    else:
        cleaned = clean_labels(mined.labels)
        texts = [label.text for label in cleaned]
        candidates = nearest_class_names(
            encoder, texts, class_names, rules.n_candidates, progress=progress
        )
        if rules.wordnet_candidates:
            from negrefine.judges.wordnet_candidates import with_wordnet_candidates

            candidates = with_wordnet_candidates(texts, candidates, class_names)
        labels, trail = filter_labels(cleaned, candidates, judge, rules, progress=progress)
    if not any(label.kept for label in labels):
        raise InputError(
            f"The filter removed all {len(labels)} negative labels: check the judge, "
            "or use judge='none'."
        )
    features = mined.features.copy()
    for pos, templates in (("noun", prompts.noun), ("adj", prompts.adjective)):
        changed = [i for i in changed_texts(labels) if labels[i].pos == pos]
        if changed:
            features[changed] = embed(encoder, [labels[i].text for i in changed], templates)
    return Negatives(tuple(labels), features), trail


def changed_texts(labels: Sequence[NegativeLabel]) -> list[int]:
    """Return the indices of the labels whose text is no longer the mined one."""
    return [i for i, label in enumerate(labels) if label.text != label.mined_text]


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


def check_judge(name: str, judge: object) -> None:
    """Raise InputError for what is neither a judge nor the name of one."""
    if isinstance(judge, Unsaved):
        raise judge.error()
    methods = (getattr(judge, method, None) for method in ("is_proper_noun", "is_subcategory"))
    usable = all(map(callable, methods)) and not isinstance(judge, (str, type))
    if not (judge is None or judge in ("wordnet", "none") or usable):
        raise InputError(
            f"{name} must be 'wordnet', 'none' or an object with the methods is_proper_noun and "
            f"is_subcategory, not {judge!r}."
        )


def resolve_judge(judge: Judge | Unsaved | str | None) -> Judge | None:
    """Return the judge that the parameter of `NegRefine` means, or None for no filter."""
    if judge is None or judge == "wordnet":
        from negrefine.judges.wordnet import WordNetJudge

        return WordNetJudge()
    return None if isinstance(judge, (str, Unsaved)) else judge
