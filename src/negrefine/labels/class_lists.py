"""Class names in the formats in which data sets and models carry them.

What is unambiguous is read, and a note says how; the rest is refused.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from negrefine.errors import InputError
from negrefine.files.reading import parse_json
from negrefine.files.records import short_repr

Read: TypeAlias = tuple[list[str], list[str]]
"""Names, and notes on how they were read."""

# The best one first: a table may have a name and a number for each class.
_COLUMNS = ("class_name", "classname", "name", "class", "label", "category")
# Under these keys, the best one first, model configurations and data sets keep their classes.
_KEYS = ("id2label", "names", "class_names", "classes", "categories", "label2id")
_WORDNET_ID = re.compile(r"n\d{8}")
# How files begin that hold something else than names.
_NO_LISTS = {
    r"<(!doctype|html|\?xml|!--)": "a web page or XML",
    r"version https://git-lfs": "a pointer of Git LFS, not the file it stands for",
    r"\{\\rtf": "rich text (RTF)",
    r"%PDF-": "a PDF document",
    r"404: Not Found\s*$": "a server's answer that the file was not found",
}
_PYTHON_NAME = re.compile(r"([A-Za-z_]\w*)\s*=\s*(?=[\[({])")
# Python's own parser takes hundreds of bytes for each.
_LITERAL_CHARACTERS = 2 << 20
_PLAIN = "give a text file with one name per line"


def parse_class_list(text: str, suffix: str, shown: str) -> Read:
    """Return the names in the text of a file, and notes on what was interpreted.

    Args:
        text: Content of the file.
        suffix: Of its name, such as ".json"; JSON is recognised in any file.
        shown: What errors call the file.

    Raises:
        InputError: The names cannot be told without a guess, or the file is not of its format.
    """
    suffix = suffix.lower()
    for beginning, what in _NO_LISTS.items():
        if re.match(beginning, text.lstrip(), re.IGNORECASE):
            raise InputError(f"{shown} holds {what}: {_PLAIN}.")
    if suffix in {".csv", ".tsv"}:
        return _of_table(text, _delimiter(text, suffix), shown)
    data = _data(text, suffix, shown)
    if data is not None:
        return _of_data(data, shown)
    data = _python_literal(text, shown)
    if data is not None:
        names, notes = _of_data(data, shown)
        return names, ["the text is a value in Python's notation", *notes]
    return _of_lines(text, shown)


def _python_literal(text: str, shown: str) -> Any:
    """Return a list or mapping written as in Python, None for other text."""
    text = text.strip()
    assigned = _PYTHON_NAME.match(text)
    literal = text[assigned.end() :] if assigned else text
    brackets = (literal[:1], literal[-1:])
    if brackets not in {("[", "]"), ("{", "}"), ("(", ")")}:
        if assigned:
            raise InputError(f"{shown} looks like a program: {_PLAIN}.")
        return None
    if len(literal) > _LITERAL_CHARACTERS:
        raise InputError(
            f"{shown} looks like a list in Python's notation of more than "
            f"{_LITERAL_CHARACTERS >> 20} MiB: {_PLAIN}."
        )
    try:
        data = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        if assigned or re.search("[,'\"]", literal):
            raise InputError(
                f"{shown} looks like a list in brackets, and is neither JSON nor Python: correct "
                f"it, or {_PLAIN}."
            ) from error
        return None
    return list(data) if isinstance(data, tuple) else data


def _data(text: str, suffix: str, shown: str) -> Any:
    """Return what JSON, JSON lines or YAML hold, None for other text."""
    if suffix in {".yaml", ".yml"}:
        from negrefine.labels.yaml_text import parse_yaml

        data = _parsed(parse_yaml, text, "YAML", shown)
        return [] if data is None else data
    if suffix == ".json":
        data = _parsed(parse_json, text, "JSON", shown)
        return [] if data is None else data
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    objects = len(lines) > 1 and all(line.startswith("{") and line.endswith("}") for line in lines)
    if suffix in {".jsonl", ".ndjson"} or objects:
        return [_parsed(parse_json, line, "JSON lines", shown) for line in lines]
    if text.lstrip().startswith(("[", "{")):
        # A list of names may begin so, but not if it is JSON that is refused.
        with suppress(json.JSONDecodeError):
            return _parsed(parse_json, text, "JSON", shown, passing=json.JSONDecodeError)
    return None


def _parsed(
    parse: Callable[[str], Any],
    text: str,
    kind: str,
    shown: str,
    passing: type[Exception] | tuple[()] = (),
) -> Any:
    """Return what `parse` makes of a text; errors are InputError, but for those to be passed on."""
    try:
        return parse(text)
    except passing:
        raise
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        if isinstance(error, RecursionError):
            why = "it is nested too deeply"
        raise InputError(f"{shown} is not {kind} ({why}): correct it, or {_PLAIN}.") from error


def _of_data(data: Any, shown: str) -> Read:
    """Return the names in parsed JSON, YAML or Python."""
    if isinstance(data, Mapping):
        key = next((key for key in _KEYS if isinstance(data.get(key), (list, Mapping))), None)
        if key is not None:
            return _of_data(data[key], f"{key!r} of {shown}")
        entries = list(data.items())
        if entries and all(_is_number(key) for key, _ in entries):
            return _texts([value for _, value in sorted(entries, key=lambda e: int(e[0]))], shown)
        numbers = [value for _, value in entries]
        if entries and all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
            if len(set(numbers)) == len(numbers):
                return _texts([key for key, _ in sorted(entries, key=lambda e: e[1])], shown)
            raise InputError(f"{shown} gives several names one number: {_PLAIN}.")
        raise InputError(
            f"{shown} holds a mapping that does not say which are the names: {_PLAIN}."
        )
    if isinstance(data, list):
        return _texts(data, shown)
    raise InputError(
        f"{shown} holds a value of type {type(data).__name__}, not a list of names: {_PLAIN}."
    )


def _texts(values: list[Any], shown: str) -> Read:
    """Return names that are given as texts, objects with a name, or (WordNet id, name)."""
    names: list[str] = []
    notes: dict[str, None] = {}
    for i, value in enumerate(values):
        name = value
        if isinstance(value, Mapping):
            keys = [key for key in _COLUMNS if key in value]
            name = value[keys[0]] if keys else None
            if len(keys) > 1:
                notes[f"{keys[0]!r} was read, not {keys[1]!r}"] = None
        elif isinstance(value, (list, tuple)) and len(value) == 2 and _is_wordnet_id(value[0]):
            name = value[1]
            notes["the WordNet ids before the names were left out"] = None
        if not isinstance(name, str):
            raise InputError(
                f"Entry {i} of {shown} is {short_repr(value)}, from which no name can be told: "
                f"write names as strings (in quotes), or {_PLAIN}."
            )
        names.append(name.strip())
    return names, list(notes)


def _delimiter(text: str, suffix: str) -> str:
    """Return what separates columns; spreadsheets of many countries write ";" into .csv files."""
    if suffix == ".tsv":
        return "\t"
    first = next((line for line in text.splitlines() if line.strip()), "")
    return next((mark for mark in (",", ";", "\t") if mark in first), ",")


def _of_table(text: str, delimiter: str, shown: str) -> Read:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as error:
        raise InputError(f"{shown} is not a table ({error}): correct it, or {_PLAIN}.") from error
    if not rows:
        return [], []
    header = [cell.strip().casefold() for cell in rows[0]]
    known = [name for name in _COLUMNS if header.count(name) == 1]
    if not known:
        if all(len(row) == 1 for row in rows):
            return [row[0].strip() for row in rows], []
        pairs = all(len(row) == 2 for row in rows)
        if pairs and all(_is_number(row[0]) or _is_wordnet_id(row[0]) for row in rows):
            return [row[1].strip() for row in rows], ["the second column was read"]
        raise InputError(
            f"{shown} has the columns {', '.join(map(repr, rows[0]))}, and none is called 'name': "
            f"call one so, or {_PLAIN}."
        )
    column = header.index(known[0])
    names = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= column or not row[column].strip():
            raise InputError(f"Row {number} of {shown} has no {known[0]!r}: fill it in.")
        names.append(row[column].strip())
    return names, [f"the column {known[0]!r} was read"] if len(header) > 1 else []


def _of_lines(text: str, shown: str) -> Read:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    names = [line for line in lines if not line.startswith("#")]
    notes = []
    if n_comments := len(lines) - len(names):
        notes.append(f"{n_comments} lines that begin with '#' were skipped")
    if not names:
        return [], notes
    _check_lines(names, shown)
    if len(names) > 1 and all(line.startswith(("- ", "* ")) for line in names):
        names = [line[2:].strip() for line in names]
        notes.append("the bullets before the names were left out")
    for what, strip in (
        ("WordNet ids before", _after_wordnet_id),
        ("numbers before", _after_number),
        ("numbers after", _before_number),
    ):
        rest = [strip(line, i) for i, line in enumerate(names)]
        if len(names) > 1 and all(rest):
            return [each for each in rest if each], [*notes, f"{what} the names were left out"]
    if names[0].casefold() in _COLUMNS:
        notes.append("the first line counts as a name too; remove it if it is a heading")
    return names, notes


def _check_lines(names: list[str], shown: str) -> None:
    """Raise InputError for lines that are no names but another format."""
    if any(re.search(r"</[a-z]\w*\s*>|<br ?/?>", line, re.IGNORECASE) for line in names):
        raise InputError(f"{shown} holds the tags of a web page or XML: {_PLAIN}.")
    if names[0].rstrip() in {f"{key}:" for key in _KEYS}:
        raise InputError(f"{shown} looks like YAML: end its name in .yaml, or {_PLAIN}.")
    cells = [cell.strip().casefold() for cell in re.split("[,;]", names[0])]
    if len(cells) > 1 and set(cells) & set(_COLUMNS):
        raise InputError(f"{shown} looks like a table: end its name in .csv, or {_PLAIN}.")
    ends = [line for line in names if line.endswith(",") or line[0] == line[-1] == '"']
    if len(ends) > 1 and len(ends) >= len(names) - 1:
        raise InputError(
            f"{shown} has quotes around its lines or commas at their ends: remove them, so that "
            "one plain name is on each line."
        )
    if len(names) == 1 and names[0].count(",") > 1:
        raise InputError(f"{shown} holds one line with commas: {_PLAIN}.")
    if sum(line.endswith("{") or line == "}" for line in names) > 1:
        raise InputError(f"{shown} holds blocks in braces, such as a label map: {_PLAIN}.")
    for mark, what in (("\t", "tabs"), (";", "semicolons"), ("|", "vertical bars")):
        if all(mark in line for line in names):
            how = "end its name in .tsv" if mark == "\t" else "write it as .csv with commas"
            raise InputError(
                f"{shown} holds a table with {what}: {how} and call a column 'name', or {_PLAIN}."
            )


def _after_wordnet_id(line: str, position: int) -> str | None:
    del position
    match = re.fullmatch(r"n\d{8}[\s,:]+(\S.*)", line)
    return match and match[1]


def _after_number(line: str, position: int) -> str | None:
    """Return what follows a number that counts the lines from 0 or 1."""
    match = re.fullmatch(r"(\d+)\s*[.:)]?\s+(\S.*)", line)
    counts = match is not None and int(match[1]) in {position, position + 1}
    return match[2] if match is not None and counts else None


def _before_number(line: str, position: int) -> str | None:
    """Return what stands before a number that counts the lines from 0 or 1."""
    match = re.fullmatch(r"(\S.*?)(?:\s*[:=,]\s*|\s+)(\d+)", line)
    counts = match is not None and int(match[2]) in {position, position + 1}
    return match[1] if match is not None and counts else None


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().isdecimal()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_wordnet_id(value: object) -> bool:
    return isinstance(value, str) and _WORDNET_ID.fullmatch(value.strip()) is not None
