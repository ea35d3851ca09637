"""Negative mining: the words of a lexicon that are least similar to the class names.

NegLabel (ICLR 2024, arXiv 2403.20078), CSP (NeurIPS 2024, arXiv 2410.08611) and NegRefine
(ICCV 2025, arXiv 2507.09795) mine by the same rule with different switches; a `MiningRule` holds
the switches.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.constraints import Constraint, Number, OneOf, Strings, check_all
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.errors import InputError
from negrefine.labels.embedding import embed
from negrefine.labels.negatives import NegativeLabel, Negatives
from negrefine.labels.prompts import SUPERCLASS_TEMPLATES, Prompts, check_template

if TYPE_CHECKING:
    from negrefine.labels.lexicon import Lexicon, LexiconEntry

# Rows of the candidate-by-class similarity matrix held at a time.
_ROWS = 8192


def _check_superclasses(name: str, value: Any) -> None:
    Strings()(name, value)
    for template in value:
        check_template("superclass template", template)


CONSTRAINTS: Mapping[str, Constraint] = {
    "superclasses": _check_superclasses,
    "exclude_class_names": OneOf(("exact", "casefold", "off")),
    "quantile": Number("lie in [0, 1]", low=0, high=1, closed="both"),
    "similarity_cap": Number("be a finite number or None", optional=True),
    "top_fraction": Number("lie in (0, 1]", low=0, high=1, closed="high"),
}
"""What the fields of `MiningRule` may be."""


@dataclass(frozen=True)
class MiningRule:
    """The switches in which the published miners differ.

    Attributes:
        superclasses: Templates of which each adjective draws one (CSP); empty leaves it bare.
        clean_underscores: Read "_" in lexicon words as a space (CSP, NegRefine).
        exclude_class_names: "exact" drops nouns equal to a class name (NegRefine), "casefold" also
            those that differ in case only, "off" drops none (NegLabel, CSP).
        quantile: Quantile of a word's cosines over the K classes that ranks it; 1 is the maximum.
        similarity_cap: A word with a cosine above it is ranked last, at 1.0; None for no cap.
        top_fraction: Fraction of the nouns, and of the adjectives, to take: the least similar ones.
    """

    superclasses: tuple[str, ...] = SUPERCLASS_TEMPLATES
    clean_underscores: bool = True
    exclude_class_names: str = "exact"
    quantile: float = 1.0
    similarity_cap: float | None = 0.95
    top_fraction: float = 0.15

    def __post_init__(self) -> None:
        check_all(self, CONSTRAINTS)


def candidate_pool(
    lexicon: Lexicon, class_names: Sequence[str], rule: MiningRule, seed: int
) -> list[NegativeLabel]:
    """Return every candidate in lexicon order, nouns and adjectives mixed, similarity 0.

    A word counts where it stands first, for nouns and adjectives together, so the order of the
    lexicon decides whether a word that is both becomes a noun or an adjective. One superclass is
    drawn for each surviving adjective, in order; `seed` is the seed of the draw.
    """
    return [
        NegativeLabel(word, text, text, entry.pos, entry.lexname, similarity=0.0)
        for word, text, entry in _candidates(lexicon, class_names, rule, seed)
    ]


def count_candidates(
    lexicon: Lexicon, class_names: Sequence[str], rule: MiningRule
) -> Counter[str]:
    """Return how many nouns ("noun") and adjectives ("adj") `candidate_pool` returns."""
    return Counter(entry.pos for *_, entry in _candidates(lexicon, class_names, rule, seed=0))


def _candidates(
    lexicon: Lexicon, class_names: Sequence[str], rule: MiningRule, seed: int
) -> Iterator[tuple[str, str, LexiconEntry]]:
    """Yield (word, text, entry) of each candidate."""
    fold = str.casefold if rule.exclude_class_names == "casefold" else str
    excluded = set() if rule.exclude_class_names == "off" else set(map(fold, class_names))
    rng = random.Random(seed)  # noqa: S311
    seen: set[str] = set()
    for entry in lexicon.entries:
        word = entry.word.replace("_", " ") if rule.clean_underscores else entry.word
        word = word.strip()
        if not word or word in seen:
            continue
        seen.add(word)
        text = word
        if entry.pos == "noun":
            if fold(word) in excluded:
                continue
        elif rule.superclasses:
            text = rng.choice(rule.superclasses).replace("{}", word)
        yield word, text, entry


def class_similarity(
    candidates: FloatArray, classes: FloatArray, rule: MiningRule
) -> NDArray[np.float64]:
    """Return how similar each candidate is to the set of classes, float64 (n,).

    Candidates, float32 (n, d), and classes, float32 (K, d), are normalised. The quantile of the
    cosines is interpolated linearly.
    """
    similarity = np.empty(len(candidates), dtype=np.float64)
    transposed = classes.astype(np.float64).T
    for start in range(0, len(candidates), _ROWS):
        cosines = candidates[start : start + _ROWS].astype(np.float64) @ transposed
        largest = cosines.max(axis=1)
        # The same number, without sorting.
        chunk = largest if rule.quantile == 1 else np.quantile(cosines, rule.quantile, axis=1)
        if rule.similarity_cap is not None:
            chunk = np.where(largest > rule.similarity_cap, 1.0, chunk)
        similarity[start : start + _ROWS] = chunk
    return similarity


def select_least_similar(similarity: NDArray[np.float64], top_fraction: float) -> NDArray[np.intp]:
    """Return the indices of the int(n * top_fraction) lowest values, ascending, ties in order.

    Values that agree to seven decimals are ties: what lies beyond is rounding noise of float32
    features, and the order of labels must not depend on it.
    """
    count = int(len(similarity) * top_fraction)
    return np.argsort(np.round(similarity, 7), kind="stable")[:count]


def mine(
    encoder: Encoder,
    lexicon: Lexicon,
    class_names: Sequence[str],
    class_features: FloatArray,
    prompts: Prompts,
    rule: MiningRule,
    *,
    seed: int,
    progress: bool = False,
) -> Negatives:
    """Return the M negative labels of K classes: nouns, then adjectives, by ascending similarity.

    `class_features` is float32 (K, d), normalised; `seed` is that of the draw of superclasses.
    Raises InputError if nothing is left to take, or the prompts have no template for a kind of
    word.
    """
    pool = list(_candidates(lexicon, class_names, rule, seed))
    kinds = [("noun", prompts.noun, "nouns"), ("adj", prompts.adjective, "adjectives")]
    kinds = [kind for kind in kinds if any(entry.pos == kind[0] for *_, entry in pool)]
    for _, templates, plural in kinds:
        if not templates:
            raise InputError(
                f"The lexicon has {plural}, and the prompts have no template for them: add "
                f"'{plural.removesuffix('s')}' to the prompts."
            )
    labels: list[NegativeLabel] = []
    features: list[FloatArray] = []
    for pos, templates, plural in kinds:
        candidates = [candidate for candidate in pool if candidate[2].pos == pos]
        texts = [text for _, text, _ in candidates]
        embedded = embed(
            encoder, texts, templates, description=f"Mining {plural}", progress=progress
        )
        similarity = class_similarity(embedded, class_features, rule)
        chosen = select_least_similar(similarity, rule.top_fraction)
        for i in chosen:
            word, text, entry = candidates[i]
            value = float(similarity[i])
            labels.append(NegativeLabel(word, text, text, pos, entry.lexname, similarity=value))
        features.append(embedded[chosen])
    if not labels:
        raise InputError(
            f"No negative label could be mined: {rule.top_fraction:.2f} of the {len(pool)} "
            "candidates in the lexicon is less than one word; use a larger lexicon or fraction."
        )
    return Negatives(tuple(labels), np.concatenate(features))
