"""NegFilter on proposed labels, apart from the mined ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from negrefine.detectors.negfilter import (
    FilterRules,
    Question,
    apply_user_lists,
    changed_texts,
    clean_and_ask,
    refine,
)
from negrefine.encoders.base import Encoder
from negrefine.judges.base import Judge
from negrefine.labels.embedding import embed
from negrefine.labels.negatives import NegativeLabel, Negatives
from negrefine.labels.prompts import Prompts


def refine_with_proposed(
    everything: Negatives,
    class_names: Sequence[str],
    judge: Judge | None,
    rules: FilterRules,
    *,
    encoder: Encoder,
    prompts: Prompts,
    progress: bool = False,
) -> tuple[Negatives, list[Question]]:
    """Do what `refine` does to mined labels and to the proposed ones behind them.

    The two are cleaned and filtered apart, so that what becomes of the mined labels does not depend
    on the proposals. A proposed label is asked about the class it was proposed for first. Raises
    InputError as `refine`.
    """
    n_mined = sum(each.proposal is None or each.proposal.mined for each in everything.labels)
    if n_mined == len(everything.labels):
        return refine(
            everything,
            class_names,
            judge,
            rules,
            encoder=encoder,
            prompts=prompts,
            progress=progress,
        )
    mined = Negatives(everything.labels[:n_mined], everything.features[:n_mined])
    proposed = everything.labels[n_mined:]
    names = {name for label in proposed for name in (label.word, label.text)}
    refined, trail = refine(
        mined,
        class_names,
        judge,
        _without(rules, names - {name for each in mined.labels for name in (each.word, each.text)}),
        encoder=encoder,
        prompts=prompts,
        progress=progress,
    )
    own = replace(
        rules,
        keep=[word for word in rules.keep if word in names],
        drop=[word for word in rules.drop if word in names],
    )
    further, questions = filter_proposed(
        Negatives(proposed, everything.features[n_mined:]),
        class_names,
        judge,
        own,
        encoder=encoder,
        templates=prompts.noun,
        progress=progress,
    )
    if not further.kept:
        warnings.warn(
            f"NegFilter leaves none of {len(proposed)} proposed labels that were not mined, too.",
            stacklevel=3,
        )
    labels = (*refined.labels, *further.labels)
    joined = Negatives(labels, np.concatenate([refined.features, further.features]))
    return joined, [*trail, *questions]


def _without(rules: FilterRules, words: set[str]) -> FilterRules:
    """Return the rules without words on the user's lists that are no mined labels."""
    return replace(
        rules,
        keep=[word for word in rules.keep if word not in words],
        drop=[word for word in rules.drop if word not in words],
    )


def filter_proposed(
    proposed: Negatives,
    class_names: Sequence[str],
    judge: Judge | None,
    rules: FilterRules,
    *,
    encoder: Encoder,
    templates: Sequence[str],
    progress: bool = False,
) -> tuple[Negatives, list[Question]]:
    """Do what `refine` does to proposed labels, which may all be removed.

    A label is asked about the class it was proposed for first, then about the nearest class names.
    """
    if judge is None:
        labels = apply_user_lists(proposed.labels, rules.keep, rules.drop)
        return Negatives(tuple(labels), proposed.features), []
    labels, trail = clean_and_ask(
        proposed.labels,
        class_names,
        judge,
        rules,
        encoder=encoder,
        asked_first=_own_class,
        progress=progress,
    )
    features = proposed.features.copy()
    changed = changed_texts(labels)
    if changed:
        features[changed] = embed(encoder, [labels[i].text for i in changed], templates)
    return Negatives(tuple(labels), features), trail


def _own_class(label: NegativeLabel) -> Iterable[str]:
    name = None if label.proposal is None else label.proposal.class_name
    return () if name is None else (name,)
