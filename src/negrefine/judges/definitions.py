"""Finding the genus term, the kind that is named first, in a dictionary definition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import dropwhile, takewhile


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


_LEADING = word_set(
    "a an the any one some most all various numerous several many certain either each or such "
    "both other common important small large very"
)
# "a genus of agarics" and "any of various agarics" both mean agarics.
_OF = word_set(
    "any one some either several genus subgenus family order species variety kind type form class "
    "group breed member subfamily suborder cultivar hybrid"
)
_END = word_set(
    "with without having of that which whose who where when used for in from on at to by as than "
    "native found resembling characterized bearing cultivated grown growing usually often "
    "especially sometimes including containing consisting producing belonging formerly is are "
    "was made worn being and but over under above below between along around near through into "
    "against like"
)
# Matches the names after "of the genus", "of the family" and other ranks.
TAXON = re.compile(
    r"\bof the (?:sub|super)?(?:genus|genera|family|order|class|division|phylum) (\w[\w-]+)"
)
_COMMON_NAME = re.compile(r"^(?:the )?common name for (?:an? |the )?(.+)")
# Matches the beginning of the definition of a whole group: "any of various ...".
MEMBERS = re.compile(r"any (?:of )?(?:the |various |numerous |several |many )*")


@lru_cache(maxsize=65536)
def genus_phrase(definition: str) -> str:
    """Return the words up to the genus term: "edible agaric" of "an edible agaric that is pale"."""
    text = re.sub(r"\([^)]*\)", " ", definition).lower()
    tokens = re.split(r"[;:,.]", text, maxsplit=1)[0].split()
    start = 0
    for i, token in enumerate(tokens[:-1]):
        if tokens[i + 1] == "of" and token in _OF:
            start = i + 2
        elif token not in _LEADING and token in _END and i > start:
            break
    phrase = dropwhile(_LEADING.__contains__, tokens[start:])
    return " ".join(takewhile(lambda token: token not in _END, phrase))


def suffixes(phrase: str) -> Iterator[str]:
    """Yield the phrase, then its endings in whole words, longest first."""
    tokens = phrase.split()
    for i in range(len(tokens)):
        yield " ".join(tokens[i:])


def common_name_of(definition: str) -> str:
    """Return the genus phrase after "common name for", or ""."""
    match = _COMMON_NAME.match(definition)
    return genus_phrase(match[1]) if match else ""
