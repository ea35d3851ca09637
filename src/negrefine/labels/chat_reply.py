"""Reading yes or no out of a chat reply."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from negrefine.labels.judges import Answer

_THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
_FIRST_WORD = re.compile(r"[\W_]*(yes|no)\b", re.IGNORECASE)
_BOTH = re.compile(r"[\W_]*(yes\W+(and|or)?\W*no|no\W+(and|or)?\W*yes)\b", re.IGNORECASE)
# Less than this on yes and no together means that the model was about to say something else.
_LEAST_MASS = 0.5
_SHOWN = 40


def read_reply(text: str, alternatives: Iterable[tuple[str, float]] | None = None) -> Answer | None:
    """Return what a reply says, or None if it is neither yes nor no.

    Args:
        text: The reply. Thoughts in <think> tags, quotes and markup before the first word do not
            count; "yes and no" is neither.
        alternatives: (token, log-probability) of what the first word could have been, each token
            once. The answer is then the more probable of yes and no, over their spellings.
    """
    if alternatives is not None:
        mass = {"yes": 0.0, "no": 0.0}
        for token, log_probability in alternatives:
            word = token.strip(" \n\t\"'*`.,:!▁Ġ").lower()
            if word in mass:
                mass[word] += math.exp(log_probability)
        total = sum(mass.values())
        if total >= _LEAST_MASS:
            p = mass["yes"] / total
            return Answer(p > 0.5, f"P(yes) = {p:.3f}", max(p, 1 - p))
    said = _THOUGHTS.sub("", text)
    match = _FIRST_WORD.match(said)
    if match is None or _BOTH.match(said):
        return None
    return Answer(match[1].lower() == "yes", f"replied {said.strip()[:_SHOWN]!r}")
