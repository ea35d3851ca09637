"""The benchmark "demo": verdicts on its pictures, NegRefine's ablation, and a page of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negrefine.benchmarks import load_benchmark
from negrefine.benchmarks.bundled import ID_SET, DemoImage, demo_class_names, demo_images
from negrefine.benchmarks.run import make_ready, run_benchmark
from negrefine.demo.page import check_page, write_page
from negrefine.demo.reading import Reading, read
from negrefine.demo.verdicts import Verdict, Verdicts, choose
from negrefine.detectors import MCM, NegRefine
from negrefine.detectors.bundle import check_target
from negrefine.encoders import load_encoder
from negrefine.encoders.base import FloatArray
from negrefine.evaluation.ablation import ablation_of
from negrefine.evaluation.experiment import check_evaluation
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.store import stored_features
from negrefine.evaluation.tables import write_tables
from negrefine.files.writing import check_replaceable, write_text
from negrefine.labels.lexicon import Lexicon
from negrefine.shown_text import json_text

FPR = 0.1
PAGE = "demo.html"
CAVEAT = (
    "The built-in encoder is a toy trained on emoji and icons: these numbers show that the "
    "pipeline works and are no evidence for or against any method."
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        verdicts: On the pictures that did not set the threshold.
        evaluation: MCM in `results`, NegRefine in `ablation`, on all pictures.
        reading: Their means with intervals, and what is within noise.
        page: The HTML page of all this.
    """

    verdicts: Verdicts
    evaluation: Evaluation
    reading: Reading
    page: Path


def run_demo(
    out: Path,
    *,
    min_frequency: int = 1,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> DemoResult:
    """Fit, evaluate, calibrate and explain, and write everything to a directory.

    Args:
        out: Gets demo.html, detector/ (calibrated), examples.json, and what `run_benchmark` and
            `write_tables` write.
        min_frequency: See `Lexicon.wordnet`; 0 mines the whole of WordNet, which takes minutes.
        say: Called with a line before each step.
        progress: Draw progress bars on a terminal.

    Raises:
        InputError: `out` cannot be written to, or holds other files.
    """
    check_target(out / "detector")
    ready = make_ready(load_benchmark("demo"))
    check_evaluation(out, ready.ood_names, (0,))
    check_replaceable(out / "examples.json", '"caveat": ', '"examples": ')
    check_page(out / PAGE)
    class_names, images = demo_class_names(), demo_images()
    say("Loading the built-in encoder")
    encoder = load_encoder("builtin")
    say(f"Fitting NegRefine on {len(class_names)} animal names (mining WordNet)")
    detector = NegRefine(encoder, lexicon=Lexicon.wordnet(min_frequency=min_frequency))
    detector.fit(class_names, progress=progress)
    say(f"Scoring {len(images)} pictures with MCM, and with and without NegFilter and S_MM")
    evaluation, _ = run_benchmark(
        ready,
        {"mcm": MCM(encoder).fit(class_names)},
        out=out,
        ablation=ablation_of(detector),
        n_bootstrap=0,
        progress=progress,
    )
    say(f"Setting a threshold, judging the other pictures, writing {PAGE}")
    verdicts = _judge(detector, images, _features(evaluation, images))
    detector.save(out / "detector")
    reading = read(evaluation)
    described = [{"file": row.image.path.name, **why.as_dict()} for row, why in verdicts.examples]
    content = {"caveat": CAVEAT, "examples": described}
    write_text(out / "examples.json", json_text(content, indent=2) + "\n")
    write_tables(evaluation)
    write_page(out / PAGE, verdicts, evaluation, reading, CAVEAT)
    return DemoResult(verdicts, evaluation, reading, out / PAGE)


def _features(evaluation: Evaluation, images: list[DemoImage]) -> dict[Path, FloatArray]:
    """Return what the evaluation stored for each picture: nothing is encoded twice."""
    found: dict[Path, FloatArray] = {}
    for number, image_set in enumerate(evaluation.sets):
        rows = stored_features(evaluation.directory, number, image_set.name)
        found |= zip(map(Path, image_set.paths), rows, strict=True)
    return {image.path: found[image.path] for image in images}


def _judge(
    detector: NegRefine, images: list[DemoImage], features: dict[Path, FloatArray]
) -> Verdicts:
    """Set the threshold from every second animal, and return the verdicts on all others."""
    setting = [image for image in images if image.set_name == ID_SET][::2]
    others = [image for image in images if image not in setting]

    def features_of(chosen: Sequence[DemoImage]) -> FloatArray:
        return np.stack([features[image.path] for image in chosen])

    detector.calibrate_features(features_of(setting), fpr=FPR)
    verdicts = detector.predict_features(features_of(others))
    rows = [
        Verdict(image, bool(verdict < 0)) for image, verdict in zip(others, verdicts, strict=True)
    ]
    chosen = choose(rows)
    explanations = detector.explain_features(features_of([row.image for row in chosen]), top=3)
    examples = list(zip(chosen, explanations, strict=True))
    return Verdicts(rows, examples, len(detector.class_names_), len(setting), FPR)
