r"""Text that others have chosen, such as file names and replies, at each place where it leaves.

A terminal obeys control characters, readers are misled by invisible ones, spreadsheets run cells
that begin like a formula, and UTF-8 cannot hold every file name. `docs/names.md` says what is
written where.
"""

from __future__ import annotations

import json
import re
from typing import Any

# A list of our own, because the categories of Unicode change between versions of Python.
_CONTROLS = (
    "\0-\x1f\x7f-\x9f"  # C0, DEL and C1
    "\u2028\u2029"  # line and paragraph separator
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff"
    "\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # without width
    "\ufffe\uffff"  # no characters
)
_LONE = "\ud800-\udfff"
# Joiners in emoji and in Arabic or Indic scripts, and selectors after emoji, belong to the
# spelling; elsewhere they only hide a difference.
_JOIN, _SELECT = "\u200c\u200d", "\ufe00-\ufe0f"
_NO_LETTER = f"{_CONTROLS}{_LONE}{_JOIN}{_SELECT}"
_LETTER = "\u0590-\U0010ffff"
_AFTER_LETTER = f"(?<=[{_LETTER}])(?<![{_NO_LETTER}])"
_AFTER_EMOJI = f"(?<=[{_LETTER}][{_SELECT}])(?<![{_NO_LETTER}][{_SELECT}])"
_BEFORE_LETTER = f"(?=[{_LETTER}])(?![{_NO_LETTER}])"
# The set in front is what most texts are searched for, which is much faster.
_HIDDEN = (
    f"(?=[{_NO_LETTER}])(?:[{_CONTROLS}{_LONE}]"
    f"|(?!(?:{_AFTER_LETTER}|{_AFTER_EMOJI})[{_JOIN}]{_BEFORE_LETTER})[{_JOIN}]"
    f"|(?!(?:{_AFTER_LETTER}|(?<=[#*0-9\xa9\xae]))[{_SELECT}])[{_SELECT}])"
)
_CANDIDATE = re.compile(f"[{_NO_LETTER}]")
_HIDDEN_ONE = re.compile(_HIDDEN)
_PRINTED_CODE = re.compile(f"[{_CONTROLS}{_JOIN}{_SELECT}]")
_LONE_CODE = "ud[89a-f][0-9a-f]{2}"

# Backslashes before a character that is escaped, or before what looks like an escape.
_STORED = re.compile(rf"(?<!\\)(\\*)(?:([{_LONE}])|(?<=\\)({_LONE_CODE}))")
_PRINTED = re.compile(
    rf"(?<!\\)(\\*)(?:({_HIDDEN})|(?<=\\)(x[0-9a-f]{{2}}|u[0-9a-f]{{4}}|U000[0-9a-f]{{5}}))"
)
_RESTORED = re.compile(rf"(\\+)({_LONE_CODE})")
# Also the wide forms, which some spreadsheets take for the same. Apostrophes count, so that no two
# texts become one.
_FORMULA = re.compile("'*(?:[\t\r]|\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20])")


def visible(text: str) -> str:
    r"""Return text on one line in which nothing is obeyed and nothing is invisible.

    Control characters, line breaks, marks of direction, characters without width and halves of
    surrogate pairs become escapes such as "\x1b" or "\u202e". Text without them is unchanged.
    """
    if not _CANDIDATE.search(text):
        return text
    return _HIDDEN_ONE.sub(lambda match: _escape(match[0]), text)


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can hold the text: file names on Linux may be any bytes."""
    return text == text.encode("utf-8", "ignore").decode("utf-8")


def storable(text: str) -> str:
    r"""Return text that UTF-8 can hold, another one for each text; `restored` is its inverse.

    Bytes of a file name that are not UTF-8 become escapes such as "\udcff". Backslashes are doubled
    only before those, and before what looks like one.
    """
    return _STORED.sub(_escape_apart, text)


def restored(text: str) -> str:
    """Return the text that `storable` was given."""

    def restore(match: re.Match[str]) -> str:
        slashes, code = match.groups()
        half = slashes[: len(slashes) // 2]
        return half + (chr(int(code[1:], 16)) if len(slashes) % 2 else code)

    return _RESTORED.sub(restore, text)


def table_cell(text: str) -> str:
    """Return text with a "'" before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def printed_cell(text: str) -> str:
    """Return `storable` text as a cell of a printed table: `visible`, and another one for each."""
    return table_cell(_PRINTED.sub(_escape_apart, text))


def json_text(content: Any, **options: Any) -> str:
    r"""Return JSON in which all that is not `visible` is a "\u" escape, so that nothing is lost."""
    text = json.dumps(content, ensure_ascii=False, **options)
    # Without them only the line breaks of `indent` are candidates.
    if not _CANDIDATE.search(text.replace("\n", "")):
        return text
    return _HIDDEN_ONE.sub(_json_escape, text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_apart(match: re.Match[str]) -> str:
    slashes, character, code = match.groups()
    if character:
        return 2 * slashes + _escape(character)
    looks_hidden = match.re is _STORED or _PRINTED_CODE.match(chr(int(code[1:], 16)))
    return (2 if looks_hidden else 1) * slashes + str(code)


def _json_escape(match: re.Match[str]) -> str:
    # Between the strings there are the line breaks of `indent` only; json.dumps lets DEL be.
    character = match[0]
    return {"\n": "\n", "\x7f": "\\u007f"}.get(character) or json.dumps(character)[1:-1]
