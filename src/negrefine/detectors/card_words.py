"""Sentences of a detector's card: its threshold and guarantee, its labels, and its limits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from negrefine.detectors.kept_calibration import KeptCalibration, restored_calibration
from negrefine.detectors.tuning import Tuning
from negrefine.encoders.names import BUILTIN, BUILTIN_PHOTO
from negrefine.errors import InputError, NotFittedError
from negrefine.labels.negatives import removal_counts
from negrefine.labels.rarer_words import read_left_out
from negrefine.text_tables import markdown_text

if TYPE_CHECKING:
    from negrefine.detectors.described import Described


def is_path(name: str) -> bool:
    """Return whether a name is a path, perhaps after a word such as "hf:", and no hub id."""
    rest = re.sub(r"\A[a-z]{2,}:", "", name)
    path, at_home = PureWindowsPath(rest), rest.startswith(("~", ".", "/", "\\"))
    return at_home or path.is_absolute() or rest.endswith((".tsv", ".gz"))


def without_folders(name: str) -> str:
    """Return the last part of a path, and other names as they are."""
    return PureWindowsPath(name).name if is_path(name) else name


def guarantee(manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return what the threshold is and promises, in sentences of Markdown."""
    offset = manifest["offset"]
    if offset is None:
        return (
            "It has none, so it gives scores and no verdicts. `negrefine calibrate` sets one from "
            "images that show the classes."
        )
    try:
        kept = restored_calibration(manifest, arrays)
    except NotFittedError:
        return (
            f"{offset:.6g}, set by hand: nothing is promised about it. An image whose score is "
            "below is flagged as out-of-distribution."
        )
    except InputError as error:
        return f"{offset:.6g}. It does not fit its calibration: {markdown_text(str(error))}"
    return " ".join([_which(kept, offset), _promise(kept), _condition()])


def _which(kept: KeptCalibration, offset: float) -> str:
    images = f"{len(kept.scores):,} calibration images"
    if kept.by is None:
        return f"{offset:.6g}, from {images}; an image whose score is below is flagged."
    groups = [group for group, _ in kept.members_of_groups()]
    counts = Counter(group.kind for group in groups for _ in group.classes)
    return (
        f"One for each predicted class with enough images, from {images}: {counts['class']} "
        f"classes have a threshold of their own, {counts['pooled']} share one, and for "
        f"{counts['all']} the one of all images is used."
    )


def _promise(kept: KeptCalibration) -> str:
    rate = f"{kept.fpr:.6g}"
    whose = "in-distribution images"
    if kept.by is not None:
        whose = (
            "in-distribution images of a predicted class with a threshold of its own (of "
            "those that share one, together; of those that use the one of all images, nothing is "
            "promised)"
        )
    if kept.delta is None:
        return (
            f"At most a fraction {rate} of {whose} is flagged, on average over the draw of "
            "calibration images and of the image (split-conformal prediction): with these very "
            "calibration images the rate may be higher."
        )
    return (
        f"With probability {1 - kept.delta:.6g} over the draw of the calibration images, at most a "
        f"fraction {rate} of {whose} is flagged by this threshold."
    )


def _condition() -> str:
    return (
        "This holds for images that are exchangeable with the calibration images: from the same "
        "cameras, places and mixture of classes. **With other images it does not hold: calibrate "
        "again on your own.**"
    )


def label_sentences(found: Described) -> list[str]:
    """Return sentences about the negative labels of a detector that has some."""
    labels = found.labels or []
    removed = removal_counts(labels)
    n_removed = sum(removed.values())
    causes = ", ".join(f"{count:,} {markdown_text(kind)}" for kind, count in removed.items())
    sentences = [
        f"{len(labels) - n_removed:,} negative labels{_sources(found)} are kept, and "
        f"{n_removed:,} were removed" + (f" ({causes})." if causes else ".")
    ]
    if found.judge is not None:
        sentences.append(_judge(found.judge, found.n_answers))
    if found.proposals:
        sentences.append(
            f"audit-\\*.jsonl says what became of the {len(found.proposals):,} proposals."
        )
    if "left_out" in found.manifest:
        sentences.append(markdown_text(str(read_left_out(dict(found.manifest)))))
    return sentences


def _sources(found: Described) -> str:
    """Return where the kept labels are from, between commas; a label may be mined and proposed."""
    kept = [label for label in found.labels or () if label.kept]
    n_proposed = sum(label.proposal is not None and not label.proposal.mined for label in kept)
    mined = f"mined from the lexicon {markdown_text(without_folders(found.lexicon))}"
    proposed = f"proposed by {markdown_text(named(found.proposers))}"
    if not n_proposed:
        return f", {mined}," if found.lexicon else ""
    if not found.lexicon:
        return f", {proposed},"
    return f", {len(kept) - n_proposed:,} {mined} and {n_proposed:,} {proposed},"


def named(names: Sequence[str]) -> str:
    """Return names, without the folders of those that are paths, as a list in words."""
    return " and ".join(map(without_folders, names))


def choices(found: Described) -> str:
    """Return what of a detector was chosen on images, in Markdown."""
    said = []
    if "tuning" in found.manifest:
        try:
            said.append(markdown_text(str(Tuning.of(found.manifest["tuning"]))))
        except InputError as error:
            said.append(f"What was tuned cannot be read: {markdown_text(str(error))}")
    if "chosen_on.alphas" in found.arrays:
        # How many is not said: an image may have two marks, of its content and of its features.
        said.append("The alpha of each class was chosen on in-distribution images.")
    if "chosen_on.base" in found.arrays:
        said.append("Parameters of its base were chosen on images.")
    return " ".join(said)


def _judge(judge: str, n_answers: int) -> str:
    if judge == "none":
        return "No judge filtered them."
    return (
        f"The judge that filtered them is {markdown_text(without_folders(judge))}; audit-\\*.jsonl "
        f"has its {n_answers:,} answers."
    )


def not_promised(encoder: str) -> list[str]:
    """Return sentences about what must not be expected."""
    sentences = [
        "How many out-of-distribution images it finds: that depends on what they show, and nothing "
        "here bounds it.",
        "That a score is a probability. Scores of other detectors or encoders are not comparable.",
        "Anything on images that were altered to deceive: words written in a picture are enough.",
        "Fairness between groups of people, or fitness for decisions about people or where errors "
        "endanger somebody.",
        "That this repository is unchanged: checksums find accidents, not forgery. Pin a commit, "
        "and compare `Detector.identity()` with a value that you got elsewhere.",
    ]
    if encoder == BUILTIN:
        sentences.insert(
            0,
            "Anything about photographs: the encoder `builtin` is a toy that knows emoji and "
            "icons.",
        )
    if encoder == BUILTIN_PHOTO:
        sentences.insert(
            0,
            "Much beyond ImageNet's classes: the encoder `builtin-photo` is small and knows little "
            "else.",
        )
    return sentences
