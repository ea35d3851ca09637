"""Class names of the benchmarks: correct ones, and the ones of the official repositories."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

from negrefine.benchmarks.bundled import demo_class_names
from negrefine.benchmarks.catalogue import data_directory, find_name
from negrefine.errors import InputError

Names = Literal["correct", "official"]


def list_class_lists() -> list[str]:
    """Return the names of all class lists."""
    return list(_lists())


def class_list(name: str, names: Names = "correct") -> list[str]:
    """Return class names in the order of the data set's class numbers.

    ImageNet-1K's names are OpenAI's, the same in all six methods' repositories; they hold
    "missile" and "sunglasses" twice, and each copy counts in the scores.

    Args:
        name: Such as "imagenet-1k"; case, spaces, "-" and "_" do not matter.
        names: "official" gives the list of the CSP and NegRefine repositories, where it is known
            exactly, so that published numbers can be reproduced: CUB-200-2011 with underscores.

    Raises:
        InputError: There is no such list, or its official version cannot be rebuilt.
    """
    if names not in {"correct", "official"}:
        raise InputError(f"names must be 'correct' or 'official', not {names!r}.")
    key = find_name(name, _lists(), "class list")
    entry = _lists()[key]
    if names == "official" and "official" not in entry:
        raise InputError(
            f"{entry['official_missing']}: use names='correct', or give the list itself in a text "
            "file (--classes FILE)."
        )
    if entry.get("bundled"):
        return demo_class_names()
    lines = _lines(entry["file"])
    if "of" in entry:
        whole = dict(_imagenet())
        return [whole[wnid] for wnid in lines]
    if entry["file"].endswith(".tsv"):
        return [title for _, title in _imagenet()]
    if entry.get("underscores") and names == "correct":
        return [line.replace("_", " ") for line in lines]
    return list(lines)


def wordnet_ids(name: str) -> list[str] | None:
    """Return the WordNet id of each class, None for lists that are not of ImageNet.

    Raises:
        InputError: There is no such list.
    """
    entry = _lists()[find_name(name, _lists(), "class list")]
    if "of" in entry:
        return list(_lines(entry["file"]))
    if entry.get("file", "").endswith(".tsv"):
        return [wnid for wnid, _ in _imagenet()]
    return None


@cache
def _lists() -> dict[str, Any]:
    text = (data_directory() / "class_lists.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@cache
def _lines(file: str) -> tuple[str, ...]:
    text = (data_directory() / "classes" / file).read_text(encoding="utf-8")
    return tuple(text.splitlines())


@cache
def _imagenet() -> tuple[tuple[str, str], ...]:
    rows = (line.split("\t") for line in _lines("imagenet-1k.tsv"))
    return tuple((wnid, title) for wnid, title in rows)
