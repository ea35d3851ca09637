"""A chat as the token ids that a causal language model reads before it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from jinja2.exceptions import TemplateError


def chat_renderer(tokenizer: Any) -> Callable[[Sequence[dict[str, str]]], list[int]]:
    """Return the function from the messages of a chat to token ids.

    The tokenizer's chat template writes the chat, ending with the beginning of the reply and, where
    the template has such a switch, without thoughts. If it rejects or ignores system messages, the
    system message is put in front of the user's, separated by an empty line. A tokenizer without a
    template gets the messages separated by empty lines, then "Answer:".
    """

    def apply(messages: Sequence[dict[str, str]]) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return text

    has_template = bool(tokenizer.chat_template)
    has_system = False
    probe = [{"role": role, "content": f"{role}-PROBE"} for role in ("system", "user")]
    with suppress(TemplateError):
        has_system = has_template and "system-PROBE" in apply(probe)

    def render(messages: Sequence[dict[str, str]]) -> list[int]:
        joined = "\n\n".join(message["content"] for message in messages)
        if not has_template:
            text = f"{joined}\n\nAnswer:"
        elif has_system:
            text = apply(messages)
        else:
            text = apply([{"role": "user", "content": joined}])
        # A template writes the special tokens itself, such as the one at the beginning.
        return list(tokenizer(text, add_special_tokens=not has_template)["input_ids"])

    return render
