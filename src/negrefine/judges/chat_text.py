"""A chat as the text a causal language model reads before it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError


def chat_renderer(tokenizer: Any) -> Callable[[Sequence[dict[str, str]]], list[int]]:
    """Return what turns the messages of a chat into token ids.

    The tokenizer's chat template writes the chat, with the prompt of the reply at its end, and
    without thoughts before the reply where a template knows of them. If it refuses or leaves out
    the system message, that stands at the head of the user's message, followed by an empty line. A
    tokenizer without a template gets the messages with empty lines between, then "Answer:".
    """
    if not tokenizer.chat_template:
        # Base models expect the tokens that a template would have written, such as a beginning.
        return lambda messages: _ids(tokenizer, _plain(messages), special=True)
    folds = _refuses_system(tokenizer)

    def render(messages: Sequence[dict[str, str]]) -> list[int]:
        text = _apply(tokenizer, _folded(messages) if folds else messages)
        return _ids(tokenizer, text, special=False)

    return render


def _refuses_system(tokenizer: Any) -> bool:
    probe = [
        {"role": "system", "content": "SYSTEM-PROBE"},
        {"role": "user", "content": "USER-PROBE"},
    ]
    try:
        return "SYSTEM-PROBE" not in _apply(tokenizer, probe)
    except TemplateError:
        return True


def _apply(tokenizer: Any, messages: Sequence[dict[str, str]]) -> str:
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return text


def _folded(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [{"role": "user", "content": "\n\n".join(m["content"] for m in messages)}]


def _plain(messages: Sequence[dict[str, str]]) -> str:
    return "\n\n".join([*(m["content"] for m in messages), "Answer:"])


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special)["input_ids"]
    return ids
