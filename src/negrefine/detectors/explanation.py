"""Why an image got its score."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Match:
    """A class name or negative label and its cosine with the image.

    Attributes:
        lexname: Lexicographer file of a negative label, "" for a class name.
        definition: What WordNet says the word of a negative label means, of an adjective phrase its
            adjective; "" where WordNet does not know the word.
    """

    text: str
    similarity: float
    lexname: str = ""
    definition: str = ""


@dataclass(frozen=True, slots=True)
class PairMatch:
    """The pair of names (p_i, n_j) that decided S_MM, and their cosines with the image.

    Attributes:
        text: "p_i and n_j", which is embedded under the noun templates.
        similarity: Of the pair.
        negative_similarity: Of the negative label alone.
        added: alpha * S_MM, what the score owes to S_MM.
    """

    class_name: str
    negative: str
    text: str
    similarity: float
    negative_similarity: float
    added: float = 0.0


@dataclass(frozen=True, slots=True)
class Unfiltered:
    """What the score would be with every mined label, as if NegFilter had removed none.

    Attributes:
        score: NegRefine's score with all mined labels under the same rule of groups.
        verdict: At the image's threshold, although it was set for the filtered labels.
        n_removed: Labels that NegFilter removed.
        removed: Of them, those most similar to the image, best first.
    """

    score: float
    verdict: str | None
    n_removed: int
    removed: list[Match]


@dataclass(frozen=True, slots=True)
class PatchMatch:
    """The patch and class that decided GL-MCM's local term, and their cosine.

    `row` and `column` count from 0 at the top left of the grid.
    """

    row: int
    column: int
    class_name: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A name about which a vision model was asked, and P(yes) / P(yes or no), None if undecided."""

    text: str
    probability: float | None

    def __str__(self) -> str:
        said = "undecided" if self.probability is None else f"{self.probability:.2f}"
        return f"{self.text!r} {said}"


@dataclass(frozen=True, slots=True)
class VisionEvidence:
    """What a vision model says of an image.

    Attributes:
        model: The judge's name.
        classes: The class names about which it was asked, nearest first.
        negatives: The negative labels, likewise.
        score_without: The score without it.
        changed: Whether the verdict is another one than that of the detector without it.
        undecided: It left an answer undecided, so the score is that without it.
    """

    model: str
    classes: list[Seen]
    negatives: list[Seen]
    score_without: float
    changed: bool
    undecided: bool

    def sentence(self) -> str:
        """Return what the model sees, and what that did."""
        answers = ", ".join(map(str, (*self.classes, *self.negatives)))
        what = (
            "an answer is undecided, so the score is that without it"
            if self.undecided
            else f"without it the score is {self.score_without:.4f}"
            + (" and the verdict the other one" if self.changed else "")
        )
        return f"The vision model {self.model!r} sees {answers}; {what}."


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that decided one image.

    Attributes:
        score: Larger means more in-distribution.
        parts: The components of the score by name.
        threshold: The detector's `offset_`, or the threshold of the image's predicted class; None
            if no threshold is set.
        verdict: "ID" at or above the threshold, "OOD" below it, None without a threshold.
        classes: The most similar class names, best first.
        negatives: The most similar negative labels, best first.
        pair: The winning pair of S_MM, for NegRefine.
        patch: The winning patch, for GL-MCM.
        p_value: Conformal p-value, None without calibration scores.
        decided_by: For NegRefine with a threshold: "neglabel" if the verdict is the same for every
            value that S_MM can take (0 to 1), "multi_match" if S_MM decided. Otherwise None.
        unfiltered: The same image without NegFilter, if it was asked for.
        threshold_kind: With thresholds by class, what the threshold is of: "class", the nearest
            class name; "pooled", the classes with few calibration images; "all", all calibration
            images, for want of a pool. None where all images have one threshold.
        vision: What a vision model said, for `VisionChecked` where it was asked.
    """

    score: float
    parts: dict[str, float]
    threshold: float | None
    verdict: str | None
    classes: list[Match]
    negatives: list[Match] = field(default_factory=list)
    pair: PairMatch | None = None
    patch: PatchMatch | None = None
    p_value: float | None = None
    decided_by: str | None = None
    unfiltered: Unfiltered | None = None
    threshold_kind: str | None = None
    vision: VisionEvidence | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain Python data, for JSON."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """Return what notebooks show: the verdict, the nearest names as bars, what decided."""
        from negrefine.detectors.html import explanation_html

        return explanation_html(self)

    def threshold_of(self) -> str:
        """Return what the threshold is of, to stand after it: " of the class 'dog'", or ""."""
        name = self.classes[0].text
        return {
            None: "",
            "class": f" of the class {name!r}",
            "pooled": f" of the classes with few calibration images, {name!r} among them",
            "all": f" of all calibration images, because too few are closest to {name!r}",
        }[self.threshold_kind]

    def headline(self) -> str:
        """Return one plain sentence: the nearest class name, and whether the image belongs to it.

        A negative label "fits better" if its cosine is larger than that of every class name. The
        verdict weighs all labels together, so it may go the other way.
        """
        best = f"Closest to '{self.classes[0].text}'"
        rival = self.negatives[0] if self.negatives else None
        better = rival is not None and rival.similarity > self.classes[0].similarity
        label = f"'{rival.text}'" if rival is not None else ""
        if self.verdict is None:
            beside = f", though {label} fits better" if better else ""
            return f"{best}{beside}; no verdict, because the detector has no threshold."
        if self.verdict == "OOD":
            why = f"but {label} fits better" if better else "but not close enough"
            return f"{best}, {why}: not one of your classes."
        if better:
            return f"{best}, though {label} alone fits better: one of your classes."
        return f"{best}: one of your classes."

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


def decided_by(parts: dict[str, float], alpha: float, threshold: float | None) -> str | None:
    """Return which part of NegRefine's score decided the verdict; see `Explanation`."""
    if threshold is None or "multi_match" not in parts:
        return None
    ends = (parts["neglabel"], parts["neglabel"] + alpha)
    same = (ends[0] >= threshold) == (ends[1] >= threshold)
    return "neglabel" if same else "multi_match"


def verdict_sentences(explanation: Explanation) -> list[str]:
    """Return what was decided, at what threshold, by which part, and how without NegFilter."""
    score, threshold = explanation.score, explanation.threshold
    if threshold is None:
        verdict = f"No verdict: the score is {score:.4f} and the detector has no threshold."
    elif explanation.verdict == "ID":
        verdict = f"In-distribution: score {score:.4f} >= threshold {threshold:.4f}."
    else:
        verdict = f"Out-of-distribution: score {score:.4f} < threshold {threshold:.4f}."
    of = explanation.threshold_of()
    return [verdict, *([f"The threshold is that{of}."] if of else []), *reasons(explanation)]


def reasons(explanation: Explanation) -> list[str]:
    """Return sentences about the p-value, what part decided, and how it is without NegFilter."""
    sentences = []
    if explanation.p_value is not None:
        alike = {
            "class": f" closest to {explanation.classes[0].text!r}",
            "pooled": " closest to one of these classes",
        }.get(explanation.threshold_kind or "", "")
        sentences.append(
            f"Conformal p-value {explanation.p_value:.3g}: an in-distribution image{alike} has one "
            "this small at most that often."
        )
    if explanation.decided_by == "multi_match":
        sentences.append("S_MM decided: S_NegLabel alone leaves both verdicts open.")
    elif explanation.decided_by == "neglabel":
        sentences.append("S_NegLabel decided: no value of S_MM changes the verdict.")
    if explanation.vision is not None:
        sentences.append(explanation.vision.sentence())
    other = explanation.unfiltered
    if other is not None:
        labels = "label" if other.n_removed == 1 else "labels"
        text = f"With the {other.n_removed} {labels} that NegFilter removed: {other.score:.4f}"
        if other.verdict is not None:
            same = "still " if other.verdict == explanation.verdict else ""
            text += f", {same}{other.verdict} at this threshold"
        sentences.append(text + ".")
    return sentences
