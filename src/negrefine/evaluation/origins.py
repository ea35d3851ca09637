"""What the sets of an evaluation are, from the images and features that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from negrefine.detectors import Detector
from negrefine.evaluation.images import ImageSet, SourceSet
from negrefine.evaluation.provenance import (
    Provenance,
    SetProvenance,
    contents_digest,
    images_digest,
    texts_digest,
)
from negrefine.evaluation.results import SetScores
from negrefine.evaluation.store import Block, SetStore


def provenance_of(detectors: Mapping[str, Detector], sets: Sequence[SetProvenance]) -> Provenance:
    """Return what was measured with fitted detectors of the same class names on some sets."""
    first = next(iter(detectors.values()))
    labels = {
        row: texts_digest(detector.negatives_.texts)
        for row, detector in detectors.items()
        if detector.negatives_ is not None
    }
    return Provenance(texts_digest(first.class_names_), labels, sets)


def origin_of(
    image_set: ImageSet | SourceSet,
    store: SetStore,
    blocks: Sequence[Block],
    scored: SetScores,
    *,
    progress: bool = False,
) -> SetProvenance:
    """Return what the scores of a set are of, hashing files that an earlier run has not hashed.

    Images that are read once have been hashed while they were read.
    """
    if isinstance(image_set, ImageSet):
        known = store.root / "features" / store.folder / "images.json"
        caption = f"Hashing {store.caption}"
        images = images_digest(image_set.paths, known, caption=caption, progress=progress)
    else:
        images = contents_digest(
            [bytes.fromhex(content) for block in blocks for _, content in block.images]
        )
    return SetProvenance(
        image_set.name,
        len(scored.errors),
        int(scored.readable.sum()),
        images,
        texts_digest([block.digest for block in blocks]),
    )
