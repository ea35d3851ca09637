"""The benchmark "demo" with NegRefine and its ablation, and a few pictures explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from negrefine.benchmarks import load_benchmark
from negrefine.benchmarks.bundled import ID_SET, DemoImage, demo_class_names, demo_images
from negrefine.benchmarks.run import make_ready, run_benchmark
from negrefine.detectors import MCM, Explanation, NegRefine
from negrefine.detectors.bundle import check_target
from negrefine.encoders import load_encoder
from negrefine.evaluation.ablation import ablation_of
from negrefine.evaluation.experiment import check_evaluation
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.tables import write_tables
from negrefine.files.writing import check_replaceable, write_text
from negrefine.labels.lexicon import Lexicon
from negrefine.shown_text import json_text

FPR = 0.1
CAVEAT = (
    "The built-in encoder is a toy trained on emoji and icons: these numbers show that the "
    "pipeline works and are no evidence for or against any method."
)
_EXAMPLES = ("animals", "animals", "animals", "food", "vehicles", "objects", "plants")


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        evaluation: MCM in `results`, NegRefine in `ablation`.
        examples: A few pictures with their explanations.
        n_calibration: In-distribution pictures that set the threshold; no example is among them.
    """

    evaluation: Evaluation
    examples: list[tuple[DemoImage, Explanation]]
    n_calibration: int


def run_demo(
    out: Path,
    *,
    min_frequency: int = 1,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> DemoResult:
    """Fit, evaluate, calibrate and explain, and write everything to a directory.

    Args:
        out: Gets detector/ (calibrated), examples.json, and what `run_benchmark` and
            `write_tables` write.
        min_frequency: See `Lexicon.wordnet`; 0 mines the whole of WordNet, which takes minutes.
        say: Called with a line before each step.
        progress: Draw progress bars on a terminal.
    """
    check_target(out / "detector")
    ready = make_ready(load_benchmark("demo"))
    check_evaluation(out, ready.ood_names, (0,))
    check_replaceable(out / "examples.json", '"caveat": ', '"examples": ')
    class_names = demo_class_names()
    encoder = load_encoder("builtin")
    say(f"Fitting NegRefine on {len(class_names)} animal names (mining WordNet)")
    detector = NegRefine(encoder, lexicon=Lexicon.wordnet(min_frequency=min_frequency))
    detector.fit(class_names, progress=progress)
    say("Scoring with and without NegFilter and S_MM")
    evaluation, _ = run_benchmark(
        ready,
        {"mcm": MCM(encoder).fit(class_names)},
        out=out,
        ablation=ablation_of(detector),
        n_bootstrap=0,
        progress=progress,
    )
    images = demo_images()
    calibration = [image for image in images if image.set_name == ID_SET][::2]
    detector.calibrate([image.path for image in calibration], fpr=FPR)
    detector.save(out / "detector")
    shown = _choose([image for image in images if image not in calibration])
    explanations = [detector.explain(image.path) for image in shown]
    examples = list(zip(shown, explanations, strict=True))
    described = [{"file": image.path.name, **example.as_dict()} for image, example in examples]
    content = {"caveat": CAVEAT, "examples": described}
    write_text(out / "examples.json", json_text(content, indent=2) + "\n")
    write_tables(evaluation)
    return DemoResult(evaluation, examples, len(calibration))


def _choose(images: Sequence[DemoImage]) -> list[DemoImage]:
    """Return pictures at fixed places of each set, whatever their verdict."""
    chosen: list[DemoImage] = []
    for set_name in _EXAMPLES:
        members = [image for image in images if image.set_name == set_name]
        chosen.append(next(i for i in members[len(members) // 3 :: 7] if i not in chosen))
    return chosen
