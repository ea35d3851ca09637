"""The demo's images and class names (OpenMoji, CC BY-SA 4.0; see images/LICENSE.txt)."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from negrefine.encoders.images import read_image
from negrefine.errors import ImageError
from negrefine.labels.class_names import read_class_names

ID_SET = "animals"
# Cameras write these formats. Of a grid of 64 x 64 pixels, with 32 levels for each primary colour,
# 99 % of the bundled drawings have at most 111 different colours; photographs have 324 in the
# median and, on a plain ground, at least 80.
_CAMERA_FORMATS = frozenset({"JPEG", "MPO", "HEIF", "AVIF"})
_DRAWING_COLOURS = 120
_SAMPLE = 16
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


def shows_photographs(paths: Sequence[Path]) -> bool:
    """Return whether one of a few of these image files looks like a photograph, not a drawing."""
    step = max(1, len(paths) // _SAMPLE)
    return any(_is_photograph(path) for path in paths[::step])


def _is_photograph(path: Path) -> bool:
    # Unreadable images have rows of their own, and doubtful ones warn when they are used.
    with suppress(ImageError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = read_image(path, background=(255, 255, 255))
        with suppress(OSError), Image.open(path) as opened:
            if opened.format in _CAMERA_FORMATS:
                return True
        grid = np.asarray(picture.resize((64, 64), Image.Resampling.NEAREST), dtype=np.int64) >> 3
        counts = np.bincount((grid @ [1024, 32, 1]).ravel())
        return int(np.count_nonzero(counts)) > _DRAWING_COLOURS
    return False
