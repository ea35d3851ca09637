"""The wording of requests for proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from negrefine.judges.base import Query
from negrefine.judges.wording import check_templates

_FIELDS = {
    "similar": ("n", "class_name"),
    "far": ("n", "class_names"),
    "more": ("n",),
}
_SIMILAR, _FAR = "similar", "far"


@dataclass(frozen=True, slots=True)
class ProposalPrompts:
    """The system prompt and the requests that a language model reads, with fields in braces.

    `similar` asks for names that look like one class, `far` for things that have nothing to do
    with any, and `more` for further ones in the same conversation, as EOE does (ICML 2024, arXiv
    2406.00806). The wording is our own.
    """

    system: str = "You are a helpful assistant. You answer with plain lists and nothing else."
    similar: str = (
        "Somebody sorts photos and takes some of them for photos of '{class_name}' by mistake, "
        "because what they show looks like it in shape, colour or texture. Name {n} different "
        "things that such photos may show. None may be '{class_name}' itself, a kind of it, a part "
        "of it or another word for it. Write one short common name on each line, the most "
        "confusable first, each line beginning with '- ', without explanations. For 'strawberry', "
        "three lines would be:\n- raspberry\n- red pincushion\n- lychee"
    )
    far: str = (
        "A classifier of photos knows these classes: {class_names}.\nThink of the broad groups "
        "that these classes belong to. Then name {n} different things that can be photographed, "
        "that belong to none of those groups and that nobody would call by the name of one of the "
        "classes. Write one short common name on each line, each line beginning with '- ', without "
        "explanations."
    )
    more: str = "Name {n} more, none of which has been named before, in the same form."

    def __post_init__(self) -> None:
        """Raise InputError if a request lacks one of its fields or has an unknown one."""
        check_templates(self, _FIELDS, "The prompt {!r} of a proposer")

    def question(self, query: Query) -> str:
        """Return the last message of the user in a request."""
        return self.messages(query)[-1]["content"]

    def messages(self, query: Query, *, system_role: bool = True) -> list[dict[str, str]]:
        """Return a request of `similar_query` or `far_query` as the messages of a chat."""
        kind, n, *rest = query.class_names
        if kind == _SIMILAR:
            turns = [self.similar.format(n=n, class_name=query.word)]
        else:
            names, *replies = rest
            turns = [self.far.format(n=n, class_names=names)]
            for reply in replies:
                turns += [reply, self.more.format(n=n)]
        roles = ("user", "assistant")
        chat = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
        if not self.system:
            return chat
        if system_role:
            return [{"role": "system", "content": self.system}, *chat]
        return [{"role": "user", "content": f"{self.system}\n\n{turns[0]}"}, *chat[1:]]


def similar_query(class_name: str, n: int) -> Query:
    """Return the request for n names that look like a class, as a question for the store."""
    return Query(class_name, (_SIMILAR, str(n)))


def far_query(class_names: Sequence[str], n: int, replies: Sequence[str]) -> Query:
    """Return the request for n names of other things, after these replies to the same."""
    return Query(f"request {len(replies) + 1}", (_FAR, str(n), ", ".join(class_names), *replies))
