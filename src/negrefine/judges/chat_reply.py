"""Reading yes or no from a chat completion."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from negrefine.judges.base import Answer
from negrefine.judges.thoughts import without_thoughts

_WORD = re.compile(r"[^\W_]+")
# A smaller probability of yes and no together means that the model was about to say something else.
LEAST_MASS = 0.5
_YES_NO = frozenset({"yes", "no"})
_SHOWN_CHARACTERS = 40
# Where servers put thoughts that they separate from the content.
_THOUGHT_FIELDS = ("reasoning", "reasoning_content", "thinking")
_TEXT_PARTS = frozenset({"text", "output_text", "refusal"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What the first choice of a chat completion says; numbers of tokens are 0 if unknown."""

    # Without thoughts.
    text: str
    # (token, log-probability) of what the first word could have been, each token once; none where
    # the server does not give them or the reply begins with thoughts.
    alternatives: list[tuple[str, float]]
    # Why this is no answer, neither yes nor no nor an undecided one; empty if it is one.
    problem: str
    # A content filter stopped the reply.
    filtered: bool
    prompt_tokens: int
    completion_tokens: int


def read_completion(completion: Any) -> Reply:
    """Return the first choice of a completion of the openai package; ValueError if it is none."""
    try:
        (choice, *_) = completion.choices
        message = choice.message
        content = message.content or getattr(message, "refusal", None) or ""
        usage = completion.usage
        said, thought = _text(content)
    except (AttributeError, TypeError, ValueError) as error:
        words = f": {completion!r}" if isinstance(completion, str) else ""
        raise ValueError(f"the body is not a chat completion{words}") from error
    text = without_thoughts(said)
    thought |= any(getattr(message, name, None) for name in _THOUGHT_FIELDS)
    thought |= bool(said.strip()) and not (text and said.strip().startswith(text))
    end = getattr(choice, "finish_reason", None)
    problem = ""
    if end == "length" and read_reply(text) is None:
        problem = "the reply was cut off before an answer"
    elif not text:
        problem = "the reply ended within the model's thoughts" if thought else "the reply is empty"
    return Reply(
        text,
        [] if thought else _first_word(choice),
        problem=problem,
        filtered=end == "content_filter",
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def _text(content: Any) -> tuple[str, bool]:
    """Return the text of a message, and whether it has other parts, such as thoughts."""
    if isinstance(content, str):
        return content, False
    texts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif part.get("type", "text") in _TEXT_PARTS:
            texts.append(part.get("text", part.get("refusal")))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("the reply is not text")
    return "".join(texts), isinstance(content, list) and len(texts) < len(content)


def read_reply(text: str, alternatives: Iterable[tuple[str, float]] = ()) -> Answer | None:
    """Return the answer in a reply, or None if it is neither yes nor no, or both.

    The first word after thoughts, quotes and markup alone decides, so that an answer does not
    depend on whether a server gives log-probabilities. Those give the confidence: the share of the
    word's spellings in the probability of all spellings of yes and no.
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
        return Answer(yes, f"replied {reply[:_SHOWN_CHARACTERS]!r}")
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
