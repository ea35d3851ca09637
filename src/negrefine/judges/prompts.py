"""The wording of NegFilter's questions for language models."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from negrefine.files.reading import parse_json
from negrefine.judges.base import Query
from negrefine.judges.wording import check_templates

_FIELDS = {
    "proper_noun": ("word",),
    "subcategory": ("word", "class_name"),
    "subcategory_of_any": ("word", "class_names"),
}


@dataclass(frozen=True, slots=True)
class JudgePrompts:
    """The system prompt and the questions that a language model reads, with the fields in braces.

    The defaults are the published ones including a misspelling, because the recorded answers were
    given to them. Only `subcategory_of_any` is not from the published code.
    """

    system: str = "You are a helpful assistant. Answering only Yes/No."
    proper_noun: str = (
        "Is '{word}' a proper noun, like the name of a city, country, mountain, river, or any "
        "unique place or entity?"
    )
    subcategory: str = "Is '{word}' a subcatgeory of '{class_name}'?"
    subcategory_of_any: str = "Is '{word}' a subcategory of any of these: {class_names}?"

    def __post_init__(self) -> None:
        """Raise InputError if a question lacks one of its fields or has an unknown one."""
        check_templates(self, _FIELDS, "The judge prompt {!r}")

    def question(self, query: Query) -> str:
        """Return the question that a query stands for as text."""
        if not query.class_names:
            return self.proper_noun.format(word=query.word)
        if len(query.class_names) == 1:
            return self.subcategory.format(word=query.word, class_name=query.class_names[0])
        names = ", ".join(f"'{name}'" for name in query.class_names)
        return self.subcategory_of_any.format(word=query.word, class_names=names)

    def messages(self, query: Query, *, system_role: bool = True) -> list[dict[str, str]]:
        """Return the question as the messages of a chat, as one message without a system role."""
        if self.system and not system_role:
            return [{"role": "user", "content": f"{self.system}\n\n{self.question(query)}"}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.question(query)}]


PUBLISHED_PROMPTS = JudgePrompts()


def judge_identity(prompts: Any, **facts: str | None) -> str:
    """Return everything that determines a model's answers as one line of JSON, their storage key.

    Facts that are None are left out; of the wording, a dataclass, only its SHA-256 is included.
    """
    digest = hashlib.sha256(json.dumps(asdict(prompts), sort_keys=True).encode()).hexdigest()
    known = {name: fact for name, fact in facts.items() if fact is not None}
    return json.dumps({**known, "prompts": digest[:16]}, sort_keys=True, ensure_ascii=False)


def kind_of(identity: str) -> str:
    """Return what the stored answers of a judge are about: "words", "images" or "proposals".

    >>> kind_of('{"judge": "hf-vision", "model": "smolvlm"}'), kind_of("my judge")
    ('images', 'words')
    """
    try:
        facts = parse_json(identity)
    except ValueError:
        return "words"
    if not isinstance(facts, dict):
        return "words"
    if facts.get("task") == "propose":
        return "proposals"
    return "images" if facts.get("judge") in {"hf-vision", "openai-vision"} else "words"
