"""Reading yes or no from a chat completion."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from negrefine.judges.base import Answer

# Some chat templates write the opening tag themselves, so that a reply only closes it.
_THOUGHTS = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
_FIRST_WORD = re.compile(r"[\W_]*(yes|no)(?![^\W_])", re.IGNORECASE)
_BOTH = re.compile(
    r"[\W_]*(yes[\W_]+(and|or)?[\W_]*no|no[\W_]+(and|or)?[\W_]*yes)(?![^\W_])", re.IGNORECASE
)
# A smaller probability of yes and no together means that the model was about to say something else.
LEAST_MASS = 0.5
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Reply:
    """What the first choice of a chat completion says; numbers of tokens are 0 if unknown."""

    text: str
    # (token, log-probability) of what the first word could have been, each token once; none where
    # the server does not give them or the reply begins with thoughts.
    alternatives: list[tuple[str, float]]
    # The reply ends within the model's thoughts, before the answer.
    cut_off: bool
    prompt_tokens: int
    completion_tokens: int


def read_completion(completion: Any) -> Reply:
    """Return the first choice of a completion of the openai package; ValueError if it is none."""
    try:
        (choice, *_) = completion.choices
        text = choice.message.content or ""
        usage = completion.usage
        if not isinstance(text, str):
            raise TypeError("the reply is not text")
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError("the body is not a chat completion") from error
    finished = "</think>" in text
    thinks = finished or "<think>" in text
    truncated = getattr(choice, "finish_reason", None) == "length"
    return Reply(
        text,
        [] if thinks else _first_word(choice),
        cut_off=truncated and not finished and (thinks or not text),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def read_reply(text: str, alternatives: Iterable[tuple[str, float]] = ()) -> Answer | None:
    """Return the answer in a reply, or None if it is neither yes nor no, or both.

    The first word after thoughts, quotes and markup alone decides, so that an answer does not
    depend on whether a server gives log-probabilities. Those give the confidence: the share of the
    word's spellings in the probability of all spellings of yes and no.
    """
    reply = _THOUGHTS.sub("", text)
    match = _FIRST_WORD.match(reply)
    if match is None or _BOTH.match(reply):
        return None
    yes = match[1].lower() == "yes"
    p = _share_of_yes(alternatives)
    if p is None:
        return Answer(yes, f"replied {reply.strip()[:_SHOWN_CHARACTERS]!r}")
    return Answer(yes, f"P(yes) = {p:.3f}", p if yes else 1 - p)


def _share_of_yes(alternatives: Iterable[tuple[str, float]]) -> float | None:
    mass = {"yes": 0.0, "no": 0.0}
    for token, log_probability in alternatives:
        # NaN or a probability above 1: such a server's numbers are not used. Rounding may move
        # a certain token slightly above 0.
        if not log_probability < 1e-3:
            return None
        word = token.strip(" \n\t\"'*_`.,:!▁Ġ").lower()
        if word in mass:
            mass[word] += math.exp(log_probability)
    total = sum(mass.values())
    return mass["yes"] / total if total >= LEAST_MASS else None


def _first_word(choice: Any) -> list[tuple[str, float]]:
    """Return (token, log-probability) of the alternatives for the first token with letters."""
    # Some servers use another format; the text alone gives the answer then.
    with suppress(AttributeError, TypeError, ValueError):
        for token in choice.logprobs.content:
            if any(map(str.isalpha, token.token)):
                known = {token.token: token.logprob}
                known.update((other.token, other.logprob) for other in token.top_logprobs or ())
                return [(name, float(value)) for name, value in known.items()]
    return []


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else 0
