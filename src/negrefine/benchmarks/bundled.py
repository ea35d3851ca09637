"""The demo's images and class names (OpenMoji, CC BY-SA 4.0; see images/LICENSE.txt)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from negrefine.labels.class_names import read_class_names

ID_SET = "animals"
# A folder of PNG files for each set.
_ROOT = Path(str(files("negrefine.demo") / "images"))


@dataclass(frozen=True, slots=True)
class DemoImage:
    """One bundled picture, a PNG file; `annotation` is its name in OpenMoji.

    `set_name` is "animals" (in-distribution), "food", "vehicles", "objects" or "plants"; only
    animals have a `class_name`.
    """

    path: Path
    set_name: str
    class_name: str | None
    annotation: str


def demo_class_names() -> list[str]:
    """Return the names of the demo's animals."""
    return read_class_names(_ROOT / "classes.txt")


def demo_images() -> list[DemoImage]:
    """Return all pictures, set by set, in the order of labels.csv."""
    with (_ROOT / "labels.csv").open(encoding="utf-8", newline="") as stream:
        return [
            DemoImage(_ROOT / row["file"], row["set"], row["class"] or None, row["annotation"])
            for row in csv.DictReader(stream)
        ]
