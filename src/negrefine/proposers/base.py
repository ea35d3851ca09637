"""The proposer protocol, and how proposers are asked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from negrefine.errors import InputError
from negrefine.shown_text import visible

WORDNET_PROPOSER = "wordnet"
"""The name of `WordNetProposer`, whose module imports the lexicon."""

# The longest names of WordNet and of ImageNet's classes have half as many.
LONGEST_NAME = 100
_LISTED = 3


@runtime_checkable
class Proposer(Protocol):
    """Anything with a name and two methods that name things which are none of the classes.

    The same arguments must give the same names in the same order.

    Example:
        >>> class Beside:
        ...     name = "beside"
        ...
        ...     def propose_similar(self, class_names, n):
        ...         return {name: ["jackal", "fox"][:n] for name in class_names}
        ...
        ...     def propose_far(self, class_names, n):
        ...         return ["bridge"][:n]
        >>> detector = negrefine.VSNL(encoder, propose=Beside()).fit(names)
        >>> [label.text for label in detector.negatives_.kept]
        ['jackal', 'fox']
    """

    name: str

    def propose_similar(self, class_names: Sequence[str], n: int) -> Mapping[str, Sequence[str]]:
        """Return at most n names for each class that look like it and are another thing."""

    def propose_far(self, class_names: Sequence[str], n: int) -> Sequence[str]:
        """Return at most n names of things that have little to do with any of the classes."""


def ask_similar(proposer: Proposer, class_names: Sequence[str], n: int) -> dict[str, list[str]]:
    """Return at most n cleaned names for each distinct class name, in the order of the classes.

    Warns of classes for which nothing was proposed, and of names that cannot be used.

    Raises:
        InputError: The proposer returned something else than names by class.
    """
    distinct = list(dict.fromkeys(class_names))
    found = proposer.propose_similar(distinct, n)
    if not isinstance(found, Mapping):
        raise InputError(
            f"The proposer {proposer.name!r} returned {type(found).__name__} instead of lists of "
            "names by class name."
        )
    unknown = [name for name in found if name not in set(distinct)]
    if unknown:
        raise InputError(
            f"The proposer {proposer.name!r} proposed names for {unknown[0]!r}, which is no class."
        )
    # What was returned may be read once only.
    found = {name: _listed(names, proposer.name) for name, names in found.items()}
    cleaned = {name: clean_names(found.get(name, ()), n, proposer.name) for name in distinct}
    warn_of_unusable((text for names in found.values() for text in names), proposer.name)
    without = [name for name, names in cleaned.items() if not names]
    if without:
        shown = ", ".join(map(repr, without[:_LISTED]))
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        why = getattr(proposer, "why_nothing", "")
        warnings.warn(
            f"{proposer.name!r} proposed nothing for {len(without)} of {len(distinct)} class "
            f"names{why and f' ({why})'}: {shown}{more}.",
            stacklevel=2,
        )
    return cleaned


def ask_far(proposer: Proposer, class_names: Sequence[str], n: int) -> list[str]:
    """Return at most n cleaned names of things far from all classes; InputError as `ask_similar`.

    Warns if nothing was proposed, and of names that cannot be used.
    """
    found = _listed(proposer.propose_far(list(dict.fromkeys(class_names)), n), proposer.name)
    cleaned = clean_names(found, n, proposer.name)
    warn_of_unusable(found, proposer.name)
    if not cleaned:
        warnings.warn(f"{proposer.name!r} proposed nothing far from the classes.", stacklevel=2)
    return cleaned


def clean_names(names: Iterable[Any], n: int, proposer: str) -> list[str]:
    """Return the first n names with single spaces and without a dot at the end, each once.

    Names that differ in case only are one name, the first. Empty names are left out, and those of
    which `warn_of_unusable` warns. ANTS (CVPR 2026, arXiv 2509.03951) cleans so.

        >>> clean_names(["Sea  lion.", "sea lion", "", "walrus"], 2, "me")
        ['Sea lion', 'walrus']

    Raises:
        InputError: What `proposer` returned is no list of texts.
    """
    cleaned: dict[str, str] = {}
    for name in _listed(names, proposer):
        text = _spaced(name)
        if text and _is_usable(text):
            cleaned.setdefault(text.lower(), text)
    return list(cleaned.values())[:n]


def warn_of_unusable(names: Iterable[str], proposer: str) -> None:
    """Warn of names that `clean_names` leaves out: too long, or with characters nobody sees.

    Joiners in emoji and in scripts that need them belong to the spelling
    (`negrefine.shown_text.visible`).
    """
    unusable = [text for text in map(_spaced, names) if not _is_usable(text)]
    if unusable:
        shown = visible(unusable[0])
        shown = shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}..."
        warnings.warn(
            f"{len(unusable)} names that {proposer!r} proposed are left out, because they have "
            f"control or invisible characters or more than {LONGEST_NAME} characters; the first: "
            f"'{shown}'.",
            stacklevel=3,
        )


def _listed(names: Any, proposer: str) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(
            f"The proposer {proposer!r} returned {names!r} instead of a list of names."
        )
    listed = list(names)
    for name in listed:
        if not isinstance(name, str):
            raise InputError(f"The proposer {proposer!r} returned {name!r}, which is no name.")
    return listed


def _spaced(name: str) -> str:
    return " ".join(name.split()).rstrip(".").rstrip()


def _is_usable(text: str) -> bool:
    return len(text) <= LONGEST_NAME and visible(text) == text


_ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,4}[.):])\s+(?P<name>\S.*?)\s*$")
_MARKUP = re.compile(r"[*_`]{1,2}(?P<name>[^*_`]+)[*_`]{1,2}")
# What models add to a name: "sea otter: has whiskers, too", "sea otter - a mammal".
_EXPLANATION = re.compile(r"(?::\s|\s[-\u2013\u2014]\s|\s\().*$")


def read_list(text: str) -> list[str]:
    """Return the items of a reply: its lines that begin with a dash, a bullet or a number.

    Other lines are left out, like markup around an item, and an explanation after it.

        >>> read_list("Here they are:\\n- **Sea lion**\\n2. walrus (a mammal)")
        ['Sea lion', 'walrus']
    """
    found = [match["name"] for line in text.splitlines() if (match := _ITEM.match(line))]
    plain = [_EXPLANATION.sub("", _MARKUP.sub(r"\g<name>", name)) for name in found]
    return [name.strip(" \"'") for name in plain]
