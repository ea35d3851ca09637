"""Class names: reading them from a file and checking them."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from negrefine.errors import InputError
from negrefine.labels.class_lists import parse_class_list
from negrefine.labels.text_files import read_text
from negrefine.shown_text import is_utf8

# The longest name of the benchmarks has about half as many characters.
_LONG = 80
_IMAGE_FILE = re.compile(r"\w\.(jpe?g|png|gif|bmp|tiff?|webp|heic)(\s+\d+)?\s*$", re.IGNORECASE)


def read_class_names(
    path: str | os.PathLike[str], *, underscores_as_spaces: bool = False
) -> list[str]:
    """Read class names from a text file with one name per line, or from JSON, YAML, CSV or TSV.

    Blank lines and lines that begin with "#" are skipped in text. JSON and YAML may hold a list of
    names, a mapping from numbers to names or back, objects with a "name", or one of these under
    "id2label", "names", "classes" or "categories"; JSON lines hold a name or an object each; a
    table has a column "name", "class" or "label". What was interpreted is said in a warning.

    Args:
        path: The file, UTF-8 or UTF-16 with a byte-order mark.
        underscores_as_spaces: Read "tabby_cat" as "tabby cat".

    Raises:
        InputError: The file is missing, unreadable, no text, holds no name, or leaves open which
            texts are the names.
    """
    names = read_names(path, "class list", "class name")
    return [name.replace("_", " ") for name in names] if underscores_as_spaces else names


def read_names(path: str | os.PathLike[str], kind: str, each: str) -> list[str]:
    """Do what `read_class_names` does for any list; errors call it `kind`, and an entry `each`."""
    text = read_text(path, kind, "a text file with one name per line")
    shown = f"the {kind} {str(path)!r}"
    try:
        names, notes = parse_class_list(text, Path(path).suffix, shown)
        if not names:
            what = (
                "holds only lines that begin with '#'"
                if text.strip().startswith("#")
                else "is empty"
            )
            raise InputError(f"{shown} {what}: write one {each} per line.")
    except InputError as error:
        sentence = str(error)
        raise InputError(sentence[0].upper() + sentence[1:]) from error
    if notes:
        warnings.warn(
            f"The{shown[3:]} was read as {len(names)} names, the first {names[0]!r}: "
            f"{'; '.join(notes)}.",
            stacklevel=3,
        )
    return names


def check_class_names(class_names: Iterable[str]) -> list[str]:
    """Return the names as a list, unchanged.

    Duplicates are allowed with a warning: ImageNet's own list holds two, and each copy counts in
    every sum over classes.

    Raises:
        InputError: As `usable_class_names`.
    """
    names = usable_class_names(class_names)
    for warning in _doubts(names):
        warnings.warn(warning, stacklevel=3)
    return names


def usable_class_names(class_names: Iterable[str]) -> list[str]:
    """Do what `check_class_names` does, without warnings.

    Raises:
        InputError: No names, one string instead of a list, or a name that is not a string or blank.
    """
    if isinstance(class_names, str) and Path(class_names).suffix:
        raise InputError(
            f"class_names must be a list of names, not {class_names!r}: "
            "negrefine.labels.class_names.read_class_names reads those in a file."
        )
    if isinstance(class_names, (str, bytes)):
        raise InputError("class_names must be a list of names, not one string: wrap it in [].")
    if isinstance(class_names, Set):
        raise InputError(
            "class_names must be a list of names, not a set, whose items have no order: sort it."
        )
    if not isinstance(class_names, Iterable):
        what = type(class_names).__name__
        raise InputError(f"class_names must be a list of names, not a value of type {what}.")
    names = list(class_names)
    if not names:
        raise InputError("The class list is empty: give at least one class name.")
    for position, name in enumerate(names):
        problem = ""
        if not isinstance(name, str):
            problem = f"is {name!r}, a {type(name).__name__}: give strings"
        elif not name.strip():
            problem = "is blank: remove it or fill it in"
        elif not is_utf8(name):
            problem = f"is {name!r}, which UTF-8 cannot hold: correct it"
        if problem:
            raise InputError(f"Class name {position} {problem}.")
    # NumPy's strings show their type.
    return [str(name) for name in names]


def _folded(name: str) -> str:
    """Return what tokenizers that lower the case and split at spaces see of a name."""
    return " ".join(name.casefold().split())


def _without_hyphens(name: str) -> str:
    """Return words joined by hyphens with spaces; "T-shirt" stays."""
    return name.replace("-", " ") if re.fullmatch(r"\w{3,}(-\w{3,})+", name) else name


def _without_capitals(name: str) -> str:
    """Return words joined by capitals with spaces; "iPhone" and "McLaren" stay."""
    if re.fullmatch(r"[A-Z]?[a-z]{2,}([A-Z][a-z]{2,})+", name) and not name.startswith("Mac"):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return name


def _doubts(names: Sequence[str]) -> list[str]:
    """Return a sentence for each way in which names are probably not what was meant."""
    doubts = []
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        doubts.append(
            f"{len(repeated)} class names occur more than once, {repeated[0]!r} first: "
            "each copy counts in the scores."
        )
    folded = Counter(_folded(name) for name in set(names))
    alike = [name for name in names if folded[_folded(name)] > 1]
    if alike:
        doubts.append(
            f"{len(alike)} class names differ from another only in case or spaces, {alike[0]!r} "
            "first: most models take them for the same class."
        )
    underscored = [name for name in names if "_" in name]
    if underscored:
        spaced = underscored[0].replace("_", " ")
        doubts.append(
            f"{len(underscored)} class names hold underscores, {underscored[0]!r} first: models "
            f"know words with spaces, so write {spaced!r} (read_class_names(..., "
            "underscores_as_spaces=True), or --underscores-as-spaces)."
        )
    n_spaced = sum(" " in name for name in names)
    for how, words_of in (
        ("hyphens", {name: _without_hyphens(name) for name in names}),
        ("capitals", {name: _without_capitals(name) for name in names}),
    ):
        joined = [name for name, words in words_of.items() if words != name]
        # Among names with spaces, some such as "half-track" are written so.
        if len(joined) > (n_spaced if how == "hyphens" else 0):
            doubts.append(
                f"{len(joined)} class names are words joined by {how}, {joined[0]!r} first: models "
                f"know words with spaces, so write {words_of[joined[0]]!r}."
            )
    long = [name for name in names if len(name) > _LONG]
    if long:
        doubts.append(
            f"{len(long)} class names are longer than {_LONG} characters, {long[0][:40] + '...'!r} "
            "first: models know short names, and cut what is longer than they can read."
        )
    codes = [name for name in names if re.fullmatch(r"\s*(n\d{8}|\d+)\s*", name)]
    if codes:
        doubts.append(
            f"{len(codes)} class names are numbers or WordNet ids, {codes[0]!r} first: models know "
            "names, not labels."
        )
    files = [name for name in names if _IMAGE_FILE.search(name)]
    if files:
        doubts.append(
            f"{len(files)} class names end like image files, {files[0]!r} first: give the names of "
            "the classes, not of images."
        )
    return doubts
