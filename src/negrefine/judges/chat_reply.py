"""Reading yes or no out of a chat reply."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from negrefine.judges.base import Answer

# Some chat templates write the opening tag themselves, so that a reply only closes it.
_THOUGHTS = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
_FIRST_WORD = re.compile(r"[\W_]*(yes|no)(?![^\W_])", re.IGNORECASE)
_BOTH = re.compile(
    r"[\W_]*(yes[\W_]+(and|or)?[\W_]*no|no[\W_]+(and|or)?[\W_]*yes)(?![^\W_])", re.IGNORECASE
)
# Less than this on yes and no together means that the model was about to say something else.
_LEAST_MASS = 0.5
_SHOWN = 40


def read_reply(text: str, alternatives: Iterable[tuple[str, float]] | None = None) -> Answer | None:
    """Return what a reply says, or None if it is neither yes nor no.

    The first word alone decides, so that an answer does not depend on whether a server gives
    log-probabilities; those give the confidence.

    Args:
        text: The reply. Thoughts in <think> tags, quotes and markup before the first word do not
            count; "yes and no" is neither.
        alternatives: (token, log-probability) of what the first word could have been, each token
            once. The confidence is the share of the word said in yes and no, over their spellings.
    """
    said = _THOUGHTS.sub("", text)
    match = _FIRST_WORD.match(said)
    if match is None or _BOTH.match(said):
        return None
    yes = match[1].lower() == "yes"
    p = _share_of_yes(alternatives or ())
    if p is None:
        return Answer(yes, f"replied {said.strip()[:_SHOWN]!r}")
    return Answer(yes, f"P(yes) = {p:.3f}", p if yes else 1 - p)


def _share_of_yes(alternatives: Iterable[tuple[str, float]]) -> float | None:
    mass = {"yes": 0.0, "no": 0.0}
    for token, log_probability in alternatives:
        # Not a number, or no probability: such a server's numbers say nothing. Rounding may lift
        # a certain token a little above 0.
        if not log_probability < 1e-3:
            return None
        word = token.strip(" \n\t\"'*_`.,:!▁Ġ").lower()
        if word in mass:
            mass[word] += math.exp(log_probability)
    total = sum(mass.values())
    return mass["yes"] / total if total >= _LEAST_MASS else None
