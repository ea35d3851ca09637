"""Why an image got its score."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Match:
    """A class name or negative label beside the image.

    Attributes:
        text: The name.
        similarity: Cosine with the image, in [-1, 1].
        lexname: Lexicographer file of a negative label, "" for a class name.
    """

    text: str
    similarity: float
    lexname: str = ""


@dataclass(frozen=True, slots=True)
class PairMatch:
    """The pair of names that decided S_MM.

    Attributes:
        class_name: p_i.
        negative: n_j.
        text: "p_i and n_j", which is embedded under the noun templates.
        similarity: Cosine of the image with the pair.
        negative_similarity: Cosine of the image with the negative label alone.
    """

    class_name: str
    negative: str
    text: str
    similarity: float
    negative_similarity: float


@dataclass(frozen=True, slots=True)
class PatchMatch:
    """The patch and class that decided GL-MCM's local term.

    Attributes:
        row: Row of the patch in the grid, 0 at the top.
        column: Column of the patch in the grid, 0 at the left.
        class_name: The class it speaks for.
        similarity: Cosine of the patch with the class.
    """

    row: int
    column: int
    class_name: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that decided one image.

    Attributes:
        score: Larger means more in-distribution.
        parts: The components of the score by name.
        threshold: The detector's `offset_`, None if no threshold is set.
        verdict: "ID" at or above the threshold, "OOD" below it, None without a threshold.
        classes: The most similar class names, best first.
        negatives: The most similar negative labels, best first.
        pair: The winning pair of S_MM, for NegRefine.
        patch: The winning patch, for GL-MCM.
    """

    score: float
    parts: dict[str, float]
    threshold: float | None
    verdict: str | None
    classes: list[Match]
    negatives: list[Match] = field(default_factory=list)
    pair: PairMatch | None = None
    patch: PatchMatch | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain Python data, for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """Return one sentence: what the image looks like, and what decided."""
        best = self.classes[0]
        text = f"closest class {best.text!r} ({best.similarity:.3f})"
        if self.negatives:
            rival = self.negatives[0]
            text += f", closest negative {rival.text!r} ({rival.similarity:.3f})"
        if self.pair is not None:
            sign = "beats" if self.pair.similarity > self.pair.negative_similarity else "loses to"
            text += f"; {self.pair.text!r} {sign} {self.pair.negative!r} alone"
        if self.patch is not None:
            text += (
                f"; the patch in row {self.patch.row}, column {self.patch.column} "
                f"shows {self.patch.class_name!r} ({self.patch.similarity:.3f})"
            )
        return text


def verdict_of(score: float, threshold: float | None) -> str | None:
    """Return "ID" or "OOD", or None without a threshold."""
    if threshold is None:
        return None
    return "ID" if score >= threshold else "OOD"
