"""Which meaning of a class name is meant: the one that the other class names support.

WordNet's first sense of "ostrich" is a person who refuses to face reality. Beside "emu" and "owl"
it is the bird.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.judges.definitions import word_set
from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet

# Chosen by looking at ImageNet's names: the first takes "ostrich" from the persons and leaves "fly"
# with the animals, the second makes a "wooden spoon" a spoon and no prize.
_LEAST_NAMES = 0.25
_LEAST_SUPPORT = 0.5
# What fewer names share is nothing special among them, so WordNet weighs it.
_MANY_NAMES = 10
# Fewer names do not take one away from things, such as "dog" beside "car" to be a pawl.
_ENOUGH_NAMES = 3
_THINGS = word_set("noun.animal noun.artifact noun.food noun.plant")


@dataclass(frozen=True, slots=True)
class ChosenSense:
    """The meaning of one class name.

    Attributes:
        row: The chosen synset's row in WordNet, None for a name that has no meaning there.
        among: The rows of all senses the name may have, in WordNet's order.
        support: How much the other names support each of `among`.
    """

    row: int | None
    among: tuple[int, ...] = ()
    support: tuple[float, ...] = ()


def choose_senses(
    wordnet: WordNet, finder: WordFinder, class_names: Sequence[str]
) -> list[ChosenSense]:
    """Return the meaning of each class name.

    The senses a name may have are those of `WordFinder.class_rows`: what can be seen in an image,
    where there is such a sense. A shared hypernym h of two names is worth -log p(h), where p(h) is
    the fraction of class names below h and a name with m senses counts 1/m for each: sharing
    "entity" is worth nothing, sharing "bird" a lot. A sense's support is the sum over all other
    names of the best hypernym it shares with each of their senses, divided by their number. Below
    ten names p(h) is the fraction of WordNet below h: what two names share is all they have.

    WordNet's first sense is meant, unless the other names speak against it:

    * its lexicographer file holds the best supported senses of less than a quarter as many other
      names as the file of its own best supported sense. Then that file is meant, and the first
      sense there. Two names do not take another from animals, artifacts, food or plants.
    * it has less than half the support of another sense in its file. Then the best supported sense
      of the file is meant, of equal ones the first.
    """
    distinct = list(dict.fromkeys(class_names))
    candidates = {name: tuple(finder.class_rows(name)) for name in distinct}
    owners = [k for k, name in enumerate(distinct) for _ in candidates[name]]
    rows = [row for name in distinct for row in candidates[name]]
    weights = np.array([1 / len(candidates[distinct[k]]) for k in owners])
    each_support = iter(_support(wordnet, rows, np.array(owners), weights).tolist())
    support = {name: {row: next(each_support) for row in candidates[name]} for name in distinct}
    best = {name: max(own, key=own.__getitem__) for name, own in support.items() if own}
    n_names = Counter(wordnet.lexname(row) for row in best.values())
    chosen = {name: ChosenSense(None) for name in distinct}
    for name, top in best.items():
        own = support[name]
        others = n_names - Counter([wordnet.lexname(top)])
        row = _meant(wordnet, own, top, others)
        chosen[name] = ChosenSense(row, candidates[name], tuple(own.values()))
    return [chosen[name] for name in class_names]


def _meant(wordnet: WordNet, support: dict[int, float], top: int, n_names: Counter[str]) -> int:
    """Return which of the senses, in WordNet's order with their support, is meant.

    `n_names` counts the other names by lexicographer file, and `top` is the best supported sense.
    """
    first, *_ = support
    file, file_of_top = wordnet.lexname(first), wordnet.lexname(top)
    enough = n_names[file_of_top] >= _ENOUGH_NAMES or file not in _THINGS
    if enough and n_names[file] < _LEAST_NAMES * n_names[file_of_top]:
        file = file_of_top
    within = [row for row in support if wordnet.lexname(row) == file]
    best = max(within, key=support.__getitem__)
    return best if support[within[0]] < _LEAST_SUPPORT * support[best] else within[0]


def _support(
    wordnet: WordNet, rows: list[int], owners: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the support of each sense, whose names' numbers are `owners`."""
    below: dict[int, list[int]] = {}
    mass: dict[int, float] = {}
    for i, row in enumerate(rows):
        for hypernym in wordnet.above(row):
            below.setdefault(hypernym, []).append(i)
            mass[hypernym] = mass.get(hypernym, 0.0) + weights[i]
    total = weights.sum()
    if len(set(owners.tolist())) < _MANY_NAMES:
        mass = {hypernym: _n_below(wordnet, hypernym) for hypernym in mass}
        total = len(wordnet)
    members = {hypernym: np.array(places) for hypernym, places in below.items()}
    # Sums in another order could turn a tie: rounded, equal fractions are equal.
    worth = {h: round(-math.log(min(mass[h] / total, 1.0)), 9) for h in members}
    support = np.zeros(len(rows))
    for i, row in enumerate(rows):
        shared = np.zeros(len(rows))
        for hypernym in sorted(wordnet.above(row), key=lambda h: (worth[h], h)):
            shared[members[hypernym]] = worth[hypernym]
        shared[owners == owners[i]] = 0
        support[i] = round(float((shared * weights).sum()), 6)
    return support


def _n_below(wordnet: WordNet, row: int) -> int:
    """Return how many synsets are a synset or kinds of it."""
    seen, reached = {row}, [row]
    while reached:
        reached = list({kind for each in reached for kind in wordnet.kinds(each)} - seen)
        seen.update(reached)
    return len(seen)
