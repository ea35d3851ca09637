"""The body of a chat completion: from the bytes of a server to the first choice's text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from negrefine.judges.chat_reply import read_reply
from negrefine.judges.thoughts import without_thoughts

# Of a text. Log-probabilities make a body longer, about 1 kB for each token of a reply.
MOST_CHARACTERS = 1 << 20
_MOST_TOKENS = 1 << 53
_SHOWN_CHARACTERS = 160
# Where servers put thoughts that they separate from the content.
_THOUGHT_FIELDS = ("reasoning", "reasoning_content", "thinking")
_TEXT_PARTS = frozenset({"text", "output_text"})
# Words in the finish_reason of a reply that a limit, a failure or a content filter ended.
_CUT_OFF = ("length", "max_")
_FAILED = ("error", "abort", "cancel", "fail", "insufficient", "timeout", "overload", "malformed")
_FILTERED = ("filter", "safety", "sensitive", "prohibited", "blocklist", "recitation", "spii")
_LONGER = "raise max_tokens (--max-tokens), or turn thinking off with extra_body (--request-fields)"


class NoAnswerError(Exception):
    """A reply without an answer; the same question would get the same reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the first choice of a chat completion says; numbers of tokens are 0 if unknown."""

    # Without thoughts.
    text: str
    # (token, log-probability) of what the first word could have been, each token once; none where
    # the server does not give them or the reply begins with thoughts.
    alternatives: list[tuple[str, float]]
    # Why this is no answer, neither yes nor no nor an undecided one, and what to do; empty if it
    # is one.
    problem: str
    # Who refused to answer, and in which words; empty if nobody did.
    refusal: str
    prompt_tokens: int
    completion_tokens: int


# Of a server that refuses a question with an error.
FILTERED = Reply("", [], "", "refused by the server's content filter", 0, 0)


def read_body(content: bytes) -> Any:
    """Return the JSON of a body; ValueError if it is none, NoAnswerError if it is too deep."""
    try:
        return json.loads(content)
    except RecursionError:
        raise NoAnswerError("the reply is nested too deeply") from None
    except ValueError:
        # Not JSON, not UTF-8, or a number of thousands of digits.
        raise ValueError(f"the body is not a chat completion: {shown(content)}") from None


def shown(content: bytes) -> str:
    """Return the beginning of a body in quotes."""
    return repr(content[:_SHOWN_CHARACTERS].decode(errors="replace")) if content else "it is empty"


def read_completion(body: Any, content: bytes) -> Reply:
    """Return what the first choice of a chat completion says.

    Args:
        body: The JSON of `content`.
        content: The body itself, which errors quote.

    Raises:
        ValueError: The body is no chat completion, or the server ended the reply with an error.
        NoAnswerError: The reply is longer than `MOST_CHARACTERS`.
    """
    try:
        choice, message = _first_choice(body)
        said, refused, other_parts = _text(message.get("content"))
    except ValueError as error:
        raise ValueError(f"the body is not a chat completion, {error}: {shown(content)}") from None
    end = choice.get("finish_reason")
    end = end.lower() if isinstance(end, str) else ""
    if any(word in end for word in _FAILED):
        raise ValueError(f"the server ended the reply with {end[:_SHOWN_CHARACTERS]!r}")
    if len(said) > MOST_CHARACTERS:
        raise NoAnswerError(f"the reply is longer than {MOST_CHARACTERS:,} characters")
    text = without_thoughts(said)
    thought = other_parts or any(message.get(name) for name in _THOUGHT_FIELDS)
    thought |= bool(said.strip()) and not (text and said.strip().startswith(text))
    refusal = message.get("refusal")
    refused = refusal if isinstance(refusal, str) and refusal.strip() else refused
    if any(word in end for word in _FILTERED):
        refused = FILTERED.refusal
    elif refused:
        refused = f"refused by the model: {refused.strip()}"
    problem = ""
    if any(word in end for word in _CUT_OFF) and read_reply(text) is None:
        problem = f"the reply was cut off before an answer; {_LONGER}"
    elif not text and (message.get("tool_calls") or message.get("function_call")):
        problem = (
            "the reply calls a tool instead of answering; turn tools off on the server or with "
            "extra_body (--request-fields)"
        )
    elif not text and thought:
        problem = f"the reply ended within the model's thoughts; {_LONGER}"
    elif not text:
        problem = "the reply is empty; check that it is an instruct model with a chat template"
    usage = body.get("usage")
    return Reply(
        text,
        [] if thought else _first_word(choice),
        problem="" if refused else problem,
        refusal=refused,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def _first_choice(body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the first choice and its message; ValueError names what is missing."""
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    choices = body.get("choices")
    if choices is None:
        raise ValueError("it has no 'choices'")
    if not isinstance(choices, list):
        raise ValueError("its 'choices' are no list")
    if not choices:
        raise ValueError("its list of 'choices' is empty")
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        raise ValueError("its first choice has no 'message'")
    return choices[0], message


def _text(content: Any) -> tuple[str, str, bool]:
    """Return the text of a content, a refusal in it, and whether it has parts of other kinds."""
    if content is None:
        return "", "", False
    texts: list[Any] = []
    refusals: list[Any] = []
    others = False
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind == "refusal":
            refusals.append(part.get("refusal", part.get("text")))
        elif isinstance(kind, str) and kind in _TEXT_PARTS:
            texts.append(part.get("text") if isinstance(part, dict) else part)
        else:
            others = True
    if not all(isinstance(text, str) for text in (*texts, *refusals)):
        raise ValueError("the content of its message is neither text nor a list of parts")
    return "".join(texts), "".join(refusals), others


def _first_word(choice: dict[str, Any]) -> list[tuple[str, float]]:
    """Return (token, log-probability) of the alternatives for the first token with letters."""
    # Some servers use another format; the text alone gives the answer then.
    with suppress(AttributeError, LookupError, TypeError, ValueError, OverflowError):
        for token in choice["logprobs"]["content"]:
            if any(map(str.isalpha, token["token"])):
                return list(dict(_probabilities(token)).items())
    return []


def _probabilities(token: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for each in (token, *(token.get("top_logprobs") or ())):
        if not isinstance(each["token"], str):
            raise TypeError("a token is no text")
        yield each["token"], float(each["logprob"])


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return value if usable else 0  # type: ignore[return-value]
