"""Keeping a key out of texts that a server or a model has written."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

_MASK = "***"
# This many letters and digits of the key in a row are as good as the key to whoever guesses.
_PIECE = 8
# Masking shortens a text, so more of it is read than is shown, within a bound.
_READ_CHARACTERS = 4096
# One character of a text, perhaps encoded as in URLs, JSON or Python; white space has no group.
_CHARACTER = re.compile(
    r"%([0-9a-f]{2})|\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2})|[nrtbf])|\\*(.)", re.DOTALL | re.IGNORECASE
)


class KeyMask:
    """Replaces a key, and any eight letters and digits of it in a row, by "***".

    They are found in any letter case, encoded as in URLs or JSON, and with other characters in
    between. A key of fewer letters and digits, which only stands for one, is replaced where it
    occurs as it is.
    """

    def __init__(self, key: str = "") -> None:
        self._key = key
        letters = "".join(filter(_counts, key)).lower()
        self._pieces = frozenset(letters[i : i + _PIECE] for i in range(len(letters) - _PIECE + 1))

    def __repr__(self) -> str:
        return "KeyMask()"

    def __call__(self, text: str, most: int) -> str:
        """Return at most so many characters of a text, masked before it is cut."""
        text = text[: max(most, _READ_CHARACTERS)]
        if not self._key:
            return text[:most]
        if not self._pieces:
            return text.replace(self._key, _MASK)[:most]
        letters: list[str] = []
        spans: list[tuple[int, int]] = []
        for match in _CHARACTER.finditer(text):
            code = match[1] or match[2] or match[3]
            character = chr(int(code, 16)) if code else match[4] or " "
            if _counts(character):
                letters.append(character.lower())
                spans.append(match.span())
        joined = "".join(letters)
        found = [
            (spans[i][0], spans[i + _PIECE - 1][1])
            for i in range(len(joined) - _PIECE + 1)
            if joined[i : i + _PIECE] in self._pieces
        ]
        kept: list[str] = []
        end = 0
        for first, last in found:
            if first >= end:
                kept += (text[end:first], _MASK)
            end = last
        return "".join([*kept, text[end:]])[:most]


@contextmanager
def masked_logs(mask: KeyMask, *packages: str) -> Iterator[None]:
    """Mask what these packages log; servers repeat keys in headers, too."""

    def hide(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        record.msg, record.args = mask(text, len(text)), ()
        return True

    # A filter is not passed on to the loggers below.
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in packages]
    for name in names:
        logging.getLogger(name).addFilter(hide)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(hide)


def _counts(character: str) -> bool:
    return character.isascii() and character.isalnum()
