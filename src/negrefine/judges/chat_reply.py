"""Reading yes or no from the text of a reply."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import islice

from negrefine.judges.base import Answer
from negrefine.judges.thoughts import without_thoughts
from negrefine.key_mask import KeyMask

_WORD = re.compile(r"[^\W_]+")
# A smaller probability of yes and no together means that the model was about to say something else.
LEAST_MASS = 0.5
_YES_NO = frozenset({"yes", "no"})
SHOWN_CHARACTERS = 40


def read_reply(
    text: str, alternatives: Iterable[tuple[str, float]] = (), mask: KeyMask | None = None
) -> Answer | None:
    """Return the answer in a reply, or None if it is neither yes nor no, or both.

    The first word after thoughts, quotes and markup alone decides, so that an answer does not
    depend on whether a server gives log-probabilities. Those give the confidence: the share of the
    word's spellings in the probability of all spellings of yes and no. The reason quotes the reply
    without what `mask` hides.
    """
    reply = without_thoughts(text)
    # The first three words suffice for "yes and no".
    said = [word[0].lower() for word in islice(_WORD.finditer(reply), 3)]
    if len(said) == 3 and said[1] in {"and", "or"}:
        del said[1]
    if not said or said[0] not in _YES_NO or {*said[:2]} == _YES_NO:
        return None
    yes = said[0] == "yes"
    p = _share_of_yes(alternatives)
    if p is None:
        return Answer(yes, f"replied {(mask or KeyMask())(reply, SHOWN_CHARACTERS)!r}")
    return Answer(yes, f"P(yes) = {p:.3f}", p if yes else 1 - p)


def _share_of_yes(alternatives: Iterable[tuple[str, float]]) -> float | None:
    mass = _masses(alternatives)
    if mass is None:
        return None
    total = sum(mass.values())
    return mass["yes"] / total if total >= LEAST_MASS else None


def yes_no_mass(alternatives: Iterable[tuple[str, float]]) -> float:
    """Return P(yes) + P(no) of the spellings among the alternatives of a token, 0 if unknown."""
    mass = _masses(alternatives)
    return 0.0 if mass is None else sum(mass.values())


def _masses(alternatives: Iterable[tuple[str, float]]) -> dict[str, float] | None:
    mass = {"yes": 0.0, "no": 0.0}
    for token, log_probability in alternatives:
        # NaN or a probability above 1: such a server's numbers are not used. Rounding may move
        # a certain token slightly above 0.
        if not log_probability < 1e-3:
            return None
        word = token.strip(" \n\t\"'*_`.,:!▁Ġ").lower()
        if word in mass:
            mass[word] += math.exp(log_probability)
    return mass
