"""Detectors and explanations as notebooks show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.detectors.explanation import Explanation, Match, reasons
from negrefine.labels.negatives import removal_counts
from negrefine.notebook_html import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    bars,
    coloured,
    escaped,
    frame,
    pairs,
    paragraph,
    some_of,
)

if TYPE_CHECKING:
    from negrefine.detectors.base import Detector

_VERDICTS = {
    "ID": ("In-distribution", GREEN),
    "OOD": ("Out-of-distribution", RED),
    None: ("No verdict", GREY),
}


def detector_html(detector: Detector) -> str:
    """Return what a detector is: method, encoder, classes, labels, threshold and promise."""
    title = f"<strong>{escaped(detector.title or detector.method)}</strong>"
    rows = [("encoder", escaped(getattr(detector.encoder, "name", detector.encoder)))]
    names = getattr(detector, "class_names_", None)
    if names is None:
        return frame(title, pairs(rows), paragraph("Not fitted: call fit(class_names)."))
    rows.append((f"{len(names):,} class names", some_of(names)))
    negatives = detector.negatives_
    if negatives is not None:
        counts = removal_counts(negatives.labels)
        removed = "".join(f"; removed: {n:,} {escaped(why)}" for why, n in counts.items())
        labels = some_of([label.text for label in negatives.kept], 8)
        rows.append((f"{len(negatives.kept):,} negative labels", labels + removed))
    rows.append(("threshold", escaped(threshold_sentence(detector))))
    return frame(title, pairs(rows))


def threshold_sentence(detector: Detector) -> str:
    """Return what the threshold of a fitted detector is, and what it promises."""
    scores = detector.calibration_scores_
    if detector.offset_ is None:
        return "none: calibrate(good_images) sets one"
    if detector.fpr_ is None or scores is None:
        return f"{detector.offset_:.4f}, set by hand: it promises nothing"
    which = "by predicted class" if detector.by_ else f"{detector.offset_:.4f}"
    promise = f"at most {100 * detector.fpr_:g} % of good images are flagged"
    how = (
        "on average over calibrations"
        if detector.delta_ is None
        else f"with probability {1 - detector.delta_:g}"
    )
    return f"{which}, from {len(scores):,} images: {promise}, {how}"


def explanation_html(explanation: Explanation) -> str:
    """Return the verdict in words, what was nearest as bars, and what decided."""
    verdict, colour = _VERDICTS[explanation.verdict]
    threshold = explanation.threshold
    against = "" if threshold is None else f", threshold {threshold:.4f}"
    parts = ", ".join(f"{name} {value:.4f}" for name, value in explanation.parts.items())
    groups = [
        ("Nearest class names (cosine)", explanation.classes, BLUE),
        ("Nearest negative labels (cosine)", explanation.negatives, ORANGE),
    ]
    longest = max(match.similarity for _, matches, _ in groups for match in matches)
    drawn = [bars(head, _rows(each), hue, longest) for head, each, hue in groups if each]
    sentences = reasons(explanation)
    if explanation.pair is not None:
        pair = explanation.pair
        sentences.insert(
            0,
            f"Winning pair: {pair.text!r} {pair.similarity:.3f} against {pair.negative!r} alone "
            f"{pair.negative_similarity:.3f}.",
        )
    return frame(
        coloured(verdict, colour),
        paragraph(escaped(explanation.headline())),
        paragraph(f"score {explanation.score:.4f}{against} ({escaped(parts)})", faint=True),
        *drawn,
        *(paragraph(escaped(sentence), faint=True) for sentence in sentences),
    )


def _rows(matches: list[Match]) -> list[tuple[str, float]]:
    return [(match.text, match.similarity) for match in matches]
