"""What an evaluation does about detectors that were tuned: say so, and refuse the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from negrefine.detectors import Detector
from negrefine.detectors.selected import Selected, union
from negrefine.detectors.selection import Marks, marks_of_digests, marks_of_images
from negrefine.evaluation.images import ImageSet, SourceSet
from negrefine.evaluation.store import Block


def tuning_notes(detectors: Mapping[str, Detector]) -> list[str]:
    """Return a sentence for each choice of parameters on a validation set."""
    return [
        f"{detector.title if row == detector.method else row}, {tuning}"
        for row, detector in detectors.items()
        if isinstance(detector, Selected)
        for tuning in detector.tunings_
    ]


def check_unseen_sets(
    detectors: Mapping[str, Detector],
    image_sets: Sequence[ImageSet | SourceSet],
    blocks: Sequence[Sequence[Block]],
) -> None:
    """Raise InputError for images on which parameters or alphas of a detector were chosen.

    Files are read again for it only if there is such a detector.
    """
    chosen = [d for d in detectors.values() if isinstance(d, Selected) and d.has_seen_images]
    if not chosen:
        return
    marks = union(
        *(_marks(image_set, each) for image_set, each in zip(image_sets, blocks, strict=True))
    )
    for detector in chosen:
        detector.check_unseen(marks, "evaluate")


def _marks(image_set: ImageSet | SourceSet, blocks: Sequence[Block]) -> Marks:
    if isinstance(image_set, ImageSet):
        return marks_of_images(image_set.paths)
    return marks_of_digests(bytes.fromhex(c) for block in blocks for _, c in block.images)
