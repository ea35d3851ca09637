"""What the numbers of an evaluation are of: hashes of its images, features and labels."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from negrefine.files.identity import file_stamp
from negrefine.files.reading import read_json
from negrefine.files.records import from_row
from negrefine.files.writing import write_text
from negrefine.progress import progress_bar
from negrefine.shown_text import json_text
from negrefine.sources.bounded import content_digest

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SetProvenance:
    """One image set of an evaluation.

    Attributes:
        name: "ID" for the in-distribution set, otherwise the OOD set's own name.
        n_images: Number of image files, and `n_readable` of those that could be read.
        images: SHA-256 (hex) over the contents of the files, whatever their names and order.
        features: SHA-256 (hex) over the features, in the order of the images.
    """

    name: str
    n_images: int
    n_readable: int
    images: str
    features: str


@dataclass(frozen=True)
class Provenance:
    """What an evaluation was measured on.

    Attributes:
        class_names: SHA-256 (hex) over the class names in their order.
        negative_labels: Method to SHA-256 (hex) over its negative labels, for those that have some.
        sets: The image sets, the in-distribution one first.
    """

    class_names: str
    negative_labels: Mapping[str, str]
    sets: Sequence[SetProvenance]

    def as_dict(self) -> dict[str, Any]:
        """Return the content as plain JSON."""
        return asdict(self)

    @classmethod
    def of(cls, content: Any) -> Provenance:
        """Return what `as_dict` wrote; ValueError for anything else."""
        if not isinstance(content, Mapping) or set(content) != {
            "class_names",
            "negative_labels",
            "sets",
        }:
            raise ValueError("provenance lacks a field, or has an unknown one")
        labels, sets = content["negative_labels"], content["sets"]
        if not isinstance(labels, Mapping) or not isinstance(sets, list) or not sets:
            raise ValueError("provenance has no image sets, or no negative labels by method")
        found = [from_row(SetProvenance, row) for row in sets]
        hashes = [content["class_names"], *labels.values()]
        hashes += [value for each in found for value in (each.images, each.features)]
        if not all(isinstance(value, str) and _SHA256.fullmatch(value) for value in hashes):
            raise ValueError("provenance has a hash that is no SHA-256 of 64 hexadecimal digits")
        if any(not 0 < each.n_readable <= each.n_images for each in found):
            raise ValueError("provenance has an image set with an impossible number of images")
        if len({each.name for each in found}) < len(found):
            raise ValueError("provenance has two image sets of one name")
        return cls(content["class_names"], dict(labels), found)


def texts_digest(texts: Sequence[str]) -> str:
    """Return the SHA-256 (hex) of texts in their order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def contents_digest(digests: Sequence[bytes]) -> str:
    """Return the SHA-256 (hex) over SHA-256 of images in any order; b"" is an unreadable one."""
    return hashlib.sha256(b"".join(each or b"\0" * 32 for each in sorted(digests))).hexdigest()


def images_digest(
    paths: Sequence[Path],
    known: Path | None = None,
    *,
    caption: str = "Hashing images",
    progress: bool = False,
) -> str:
    """Return the SHA-256 (hex) over the contents of image files, whatever their names and order.

    The file `known`, if one is given, keeps it, so that files which have not changed are not read
    again.
    """
    state = texts_digest([file_stamp(path) for path in paths])
    if known is not None and (kept := _kept(known, state)) is not None:
        return kept
    digests = []
    with progress_bar(caption, len(paths), enabled=progress) as advance:
        for path in paths:
            digests.append(content_digest(path))
            advance(1)
    images = contents_digest(digests)
    if known is not None:
        write_text(known, json_text({"files": state, "images": images}) + "\n")
    return images


def _kept(known: Path, state: str) -> str | None:
    """Return the hash that a file keeps for files in this state, None without one."""
    try:
        content = read_json(known)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("files") != state:
        return None
    images = content.get("images")
    return images if isinstance(images, str) and _SHA256.fullmatch(images) else None
