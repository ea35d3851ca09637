"""What remains of a reply without the model's thoughts, in time linear in its length."""

from __future__ import annotations

import re

_NAME = r"(?:\w+:)?(?:think|thinking|thoughts?|reason|reasoning|reflection|analysis|scratchpad)"
_BEGIN = rf"[<\[◁]\s*\|?(?:begin_of_|start_)?{_NAME}\b[^<>\[\]◁▷]*(?<!/)[>\]▷]|<\|channel>thought\b"
_END = rf"[<\[◁]\s*\|?(?:/|end_of_|end_)\s*{_NAME}\b[^<>\[\]◁▷]*[>\]▷]|<channel\|>"
# No ".*" between two tags: it would read the rest of the reply once for each tag. Within a tag,
# nothing runs over the bracket that begins the next one.
_TAG = re.compile(rf"(?P<begin>{_BEGIN})|{_END}", re.IGNORECASE)
# The channels of the harmony format; what is not in the final one is thoughts or a tool call.
_HARMONY = re.compile(r"<\|(?:channel|message)\|>", re.IGNORECASE)
_FINAL = re.compile(
    r"\A.*final\s*(?:<\|constrain\|>[^<]*)?<\|message\|>(?P<answer>.*)", re.IGNORECASE | re.DOTALL
)
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
    answer, _ = _outside_tags(_BARE_CHANNELS.sub("", reply))
    return _MARKUP.sub("", answer).strip()


def ends_in_thoughts(text: str) -> bool:
    """Return whether a reply ends within the model's thoughts, before an answer."""
    if _HARMONY.search(text):
        return _FINAL.match(text) is None
    _, unfinished = _outside_tags(text)
    return unfinished


def _outside_tags(text: str) -> tuple[str, bool]:
    """Return what is in no tag of thoughts, and whether the text ends within one."""
    kept: list[str] = []
    start = 0
    inside = False
    for tag in _TAG.finditer(text):
        if tag["begin"] is None:
            if not inside:
                # Some chat templates write the opening tag themselves, so that a reply only
                # closes it.
                kept.clear()
            inside, start = False, tag.end()
        elif not inside:
            kept.append(text[start : tag.start()])
            inside = True
    if not inside:
        kept.append(text[start:])
    return "".join(kept), inside
