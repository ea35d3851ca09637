"""EOE's rules against proposals that are class names in other words (ICML 2024, arXiv 2406.00806).

Proposals are lower-cased. One that equals a class name in lower case goes; one that is to be like a
class goes too if it shares a whitespace-separated word with any class name. Class names are not
lower-cased for that, as published: the class "Water jug" leaves "water lily" alone.
"""

from __future__ import annotations

from collections.abc import Sequence


class OverlapRules:
    """The rules for a list of class names."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """Index the names and their words."""
        self._names = {name.lower(): name for name in reversed(class_names)}
        self._words = {word: name for name in reversed(class_names) for word in name.split()}

    def objection(self, text: str, *, similar: bool = True) -> str:
        """Return why a proposal goes, or "".

        >>> rules = OverlapRules(["water jug", "Great Dane"])
        >>> rules.objection("Water lily")
        "shares the word 'water' with the class 'water jug'"
        >>> rules.objection("Water lily", similar=False), rules.objection("Dane")
        ('', '')
        >>> rules.objection("great dane")
        'is a class name'
        """
        lowered = text.lower()
        if lowered in self._names:
            return "is a class name"
        if similar:
            for word in lowered.split():
                if word in self._words:
                    return f"shares the word {word!r} with the class {self._words[word]!r}"
        return ""
