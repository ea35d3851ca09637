"""The questions of NegFilter in words, for language models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from negrefine.errors import InputError
from negrefine.judges.base import Query


@dataclass(frozen=True, slots=True)
class JudgePrompts:
    """What a language model reads.

    The defaults are the published ones, a misspelling included: the recorded answers were given to
    them. Only `subcategory_of_any` is ours.

    Attributes:
        system: System prompt.
        proper_noun: Question with the field {word}.
        subcategory: Question with the fields {word} and {class_name}.
        subcategory_of_any: Question about several classes with the fields {word} and
            {class_names}.
    """

    system: str = "You are a helpful assistant. Answering only Yes/No."
    proper_noun: str = (
        "Is '{word}' a proper noun, like the name of a city, country, mountain, river, or any "
        "unique place or entity?"
    )
    subcategory: str = "Is '{word}' a subcatgeory of '{class_name}'?"
    subcategory_of_any: str = "Is '{word}' a subcategory of any of these: {class_names}?"

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: A question lacks one of its fields or has an unknown one.
        """
        for name, fields in (
            ("proper_noun", ("word",)),
            ("subcategory", ("word", "class_name")),
            ("subcategory_of_any", ("word", "class_names")),
        ):
            template = getattr(self, name)
            try:
                complete = all(
                    f"<{field}>" in template.format(**{f: f"<{f}>" for f in fields})
                    for field in fields
                )
            except (KeyError, IndexError, ValueError):
                complete = False
            if not complete:
                wanted = " and ".join(f"{{{field}}}" for field in fields)
                raise InputError(
                    f"The judge prompt {name!r} is {template!r}: it must hold {wanted} and no "
                    "other field."
                )

    def question(self, query: Query) -> str:
        """Return a query in words."""
        if not query.class_names:
            return self.proper_noun.format(word=query.word)
        if len(query.class_names) == 1:
            return self.subcategory.format(word=query.word, class_name=query.class_names[0])
        names = ", ".join(f"'{name}'" for name in query.class_names)
        return self.subcategory_of_any.format(word=query.word, class_names=names)

    def messages(self, query: Query) -> list[dict[str, str]]:
        """Return a query as the messages of a chat."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.question(query)}]


PUBLISHED_PROMPTS = JudgePrompts()


def judge_identity(prompts: JudgePrompts, **facts: str | None) -> str:
    """Return what decides a model's answers as one line, by which they are stored.

    Args:
        prompts: The questions in words; they enter as a SHA-256.
        **facts: Model, revision, mode and so on.
    """
    words: Mapping[str, str] = asdict(prompts)
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
    known = {name: fact for name, fact in facts.items() if fact is not None}
    return json.dumps({**known, "prompts": digest[:16]}, sort_keys=True, ensure_ascii=False)
