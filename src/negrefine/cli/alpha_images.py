"""The images on which alphas of classes are chosen: their option, and what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.output import counted, warn_unreadable
from negrefine.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from negrefine.detectors import Detector

ALPHA_IMAGES = option(
    [],
    "In-distribution images on which --alpha-rule 'class' chooses its alphas, and which serve no "
    "other purpose: files, folders or quoted patterns; may be given several times.",
    "IMAGES",
    name="--alpha-images",
)


def find_alpha_images(given: list[str]) -> list[Path]:
    """Return the image files, none if nothing was given."""
    from negrefine.encoders import find_images

    return find_images(given) if given else []


def check_alpha_images(detector: Detector, given: Sequence[object]) -> None:
    """Raise InputError for images without a rule by class, and for such a rule without images.

    A detector whose alphas have been chosen before needs no images.
    """
    from negrefine.detectors import NegRefine

    chooses = isinstance(detector, NegRefine) and detector.chooses_alphas
    if given and not chooses:
        raise InputError(
            "--alpha-images has no effect without --alpha-rule class (or class-scaled): leave it "
            "out, or fit with this rule."
        )
    if chooses and not given and getattr(detector, "alpha_factors_", None) is None:
        raise InputError(
            "The alpha_rule by class has chosen no alphas yet: give in-distribution images that "
            "do not calibrate with --alpha-images."
        )


def describe_alphas(detector: Detector) -> list[str]:
    """Return a sentence if alphas are still to be chosen, nothing otherwise."""
    from negrefine.detectors import NegRefine

    if not (isinstance(detector, NegRefine) and detector.chooses_alphas):
        return []
    if detector.alpha_factors_ is not None:
        return []
    return ["It scores nothing before 'negrefine calibrate --alpha-images' has chosen its alphas."]


def choose_alphas(detector: Detector, paths: Sequence[Path], batch_size: int) -> list[str]:
    """Choose alphas on image files; return what was chosen as lines, none without files."""
    from negrefine.detectors import NegRefine
    from negrefine.detectors.selection import marks_of_images
    from negrefine.evaluation.images import encode_readable

    if not paths or not isinstance(detector, NegRefine):
        return []
    features, errors = encode_readable(
        detector.encoder,
        paths,
        description="Encoding --alpha-images",
        batch_size=batch_size,
        progress=True,
    )
    warn_unreadable(errors, len(paths), "--alpha-images")
    found = detector.class_factors(features)
    detector.choose_alphas_features(features, marks=marks_of_images(paths))
    of_all = "the published alpha" if not found.pooled else "one alpha, chosen together"
    own = f"{found.n_own} {'class' if found.n_own == 1 else 'classes'}"
    lines = [
        f"Alphas from {counted(len(features), 'image')}: {own} with the {found.least} images that "
        f"one of its own needs; the others have {of_all}."
    ]
    names, alphas = detector.class_names_, detector.alpha * found.factors
    lines += [
        f"  {names[k]!r}: alpha {alphas[k]:g} from {found.counts[k]} images"
        for k in (found.counts >= found.least).nonzero()[0][:20]
    ]
    if found.n_own > 20:
        lines.append(f"  and {found.n_own - 20} more")
    return lines
