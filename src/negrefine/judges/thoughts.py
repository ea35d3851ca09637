"""What remains of a reply without the model's thoughts."""

from __future__ import annotations

import re

_NAME = r"(?:\w+:)?(?:think|thinking|thoughts?|reason|reasoning|reflection|analysis|scratchpad)"
_BEGIN = rf"[<\[◁]\s*\|?(?:begin_of_|start_)?{_NAME}\b[^<>\[\]◁▷]*(?<!/)[>\]▷]|<\|channel>thought\b"
_END = rf"[<\[◁]\s*\|?(?:/|end_of_|end_)\s*{_NAME}\b[^<>\[\]◁▷]*[>\]▷]|<channel\|>"
_FLAGS = re.IGNORECASE | re.DOTALL
_WHOLE = re.compile(rf"(?:{_BEGIN}).*?(?:{_END})", _FLAGS)
# Some chat templates write the opening tag themselves, so that a reply only closes it.
_UNOPENED = re.compile(rf"\A.*(?:{_END})", _FLAGS)
_UNFINISHED = re.compile(rf"(?:{_BEGIN}).*", _FLAGS)
# The channels of the harmony format; what is not in the final one is thoughts or a tool call.
_HARMONY = re.compile(r"<\|(?:channel|message)\|>", re.IGNORECASE)
_FINAL = re.compile(r"\A.*final\s*(?:<\|constrain\|>[^<]*)?<\|message\|>(?P<answer>.*)", _FLAGS)
# The same from a server that drops special tokens.
_BARE_CHANNELS = re.compile(
    r"\A\s*(?:(?:assistant)?(?:analysis|commentary)(?=\S).*)?assistantfinal"
    r"|\A\s*analysis(?=[A-Z]).*",
    re.DOTALL,
)
# Around the answer itself.
_MARKUP = re.compile(
    r"<\|(?!channel\b|message\b)[\w ]+\|>|</?(?:answer|response|final|output|solution|s)>",
    re.IGNORECASE,
)


def without_thoughts(reply: str) -> str:
    """Return the answer in a reply, an empty text if it ends within the model's thoughts.

    Thoughts are what is in <think>, [THINK], <reasoning> and similar tags in any letter case, also
    where only the closing tag is there, or in a channel of the harmony format other than "final".
    """
    if _HARMONY.search(reply):
        final = _FINAL.match(reply)
        reply = final["answer"] if final else ""
    for thoughts in (_BARE_CHANNELS, _WHOLE, _UNOPENED, _UNFINISHED, _MARKUP):
        reply = thoughts.sub("", reply)
    return reply.strip()


def ends_in_thoughts(text: str) -> bool:
    """Return whether a reply ends within the model's thoughts, before an answer."""
    if _HARMONY.search(text):
        return _FINAL.match(text) is None
    for thoughts in (_WHOLE, _UNOPENED):
        text = thoughts.sub("", text)
    return _UNFINISHED.search(text) is not None
