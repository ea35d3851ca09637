"""Run NegRefine and its ablation on the bundled pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negrefine.benchmarks.bundled import ID_SET, DemoImage, demo_class_names, demo_images
from negrefine.detectors import MCM, Explanation, NegRefine
from negrefine.detectors.bundle import check_target
from negrefine.encoders import load_encoder
from negrefine.evaluation.ablation import ablation_of
from negrefine.evaluation.measure import measure
from negrefine.evaluation.results import Result
from negrefine.files import write_rows
from negrefine.labels.lexicon import Lexicon

FPR = 0.1
CAVEAT = (
    "The built-in encoder is a toy trained on emoji and icons: these numbers show that the "
    "pipeline works and are no evidence for or against any method."
)
_EXAMPLES = ("animals", "animals", "animals", "food", "vehicles", "objects", "plants")


@dataclass(frozen=True)
class Example:
    """One picture with its verdict."""

    image: DemoImage
    explanation: Explanation


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        rows: AUROC and FPR95 of each method on each OOD set.
        examples: A few pictures explained.
        n_calibration: In-distribution pictures that set the threshold; no example is among them.
        n_id: In-distribution pictures in the table.
        n_ood: Out-of-distribution pictures in the table.
        detector: The fitted, calibrated NegRefine.
    """

    rows: list[Result]
    examples: list[Example]
    n_calibration: int
    n_id: int
    n_ood: int
    detector: NegRefine


def run_demo(
    out: Path,
    *,
    min_frequency: int = 1,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> DemoResult:
    """Fit, score, calibrate, explain and write everything to a directory.

    Args:
        out: Gets detector/, scores.csv, results.csv, results.json.
        min_frequency: See `Lexicon.wordnet`; 0 mines the whole of WordNet, which takes minutes.
        say: Called with a line before each step.
        progress: Draw progress bars on a terminal.
    """
    check_target(out / "detector")
    class_names = demo_class_names()
    images = demo_images()
    encoder = load_encoder("builtin")
    say(f"Encoding {len(images)} pictures")
    features = encoder.encode_images([image.path for image in images], show_progress_bar=progress)
    say(f"Fitting NegRefine on {len(class_names)} animal names (mining WordNet)")
    detector = NegRefine(encoder, lexicon=Lexicon.wordnet(min_frequency=min_frequency))
    detector.fit(class_names, progress=progress)
    say("Scoring with and without NegFilter and S_MM")
    detectors = {"MCM": MCM(encoder).fit(class_names), **ablation_of(detector)}
    scores = {name: variant.score_features(features) for name, variant in detectors.items()}
    sets = np.array([image.set_name for image in images])
    is_id = sets == ID_SET
    ood_sets = [name for name in dict.fromkeys(sets.tolist()) if name != ID_SET]
    rows = [
        row
        for method, values in scores.items()
        for row in measure(
            method, [values[is_id]], {name: [values[sets == name]] for name in ood_sets}
        )
    ]
    calibration = np.flatnonzero(is_id)[::2]
    detector.calibrate_features(features[calibration], fpr=FPR)
    examples = _examples(detector, images, features, set(calibration.tolist()))
    result = DemoResult(
        rows, examples, len(calibration), int(is_id.sum()), int((~is_id).sum()), detector
    )
    say("Writing results")
    _write(out, result, images, scores)
    return result


def _examples(
    detector: NegRefine,
    images: list[DemoImage],
    features: np.ndarray,
    calibration: set[int],
) -> list[Example]:
    """Take pictures at fixed places of each set, whatever their verdict."""
    taken: list[int] = []
    for set_name in _EXAMPLES:
        members = [
            i
            for i, image in enumerate(images)
            if image.set_name == set_name and i not in calibration
        ]
        free = [i for i in members[len(members) // 3 :: 7] if i not in taken]
        taken.append(free[0])
    explanations = detector.explain_features(features[taken])
    return [Example(images[i], e) for i, e in zip(taken, explanations, strict=True)]


def _write(
    out: Path, result: DemoResult, images: list[DemoImage], scores: dict[str, np.ndarray]
) -> None:
    result.detector.save(out / "detector")
    table = [
        {
            "file": f"{image.path.parent.name}/{image.path.name}",
            "set": image.set_name,
            "class": image.class_name,
            **{method: float(values[i]) for method, values in scores.items()},
        }
        for i, image in enumerate(images)
    ]
    schema = {"file": "string", "set": "string", "class": "string"}
    write_rows(out / "scores.csv", table, {**schema, **dict.fromkeys(scores, "double")})
    rows = [
        {
            "method": row.method,
            "ood_set": row.ood_set,
            "auroc": row.auroc.value,
            "fpr95": row.fpr95.value,
        }
        for row in result.rows
    ]
    columns = {"method": "string", "ood_set": "string", "auroc": "double", "fpr95": "double"}
    write_rows(out / "results.csv", rows, columns)
    examples = [
        {"file": example.image.path.name, **example.explanation.as_dict()}
        for example in result.examples
    ]
    content = {"caveat": CAVEAT, "results": rows, "examples": examples}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (out / "results.json").write_text(text, encoding="utf-8")
