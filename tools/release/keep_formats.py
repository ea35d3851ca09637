"""Write small saved detectors of this version, which the tests of every later one load and score.

    python tools/release/keep_formats.py

Run once for each version that changes the format of saved detectors, or adds a method to it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from negrefine import MCM, Detector, Lexicon, NegRefine, load_encoder
from negrefine.benchmarks.bundled import demo_images

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["dog", "cat", "horse"]
FOLDER = ROOT / "tests" / "detectors" / "released"


def made() -> dict[str, Detector]:
    """Return detectors by the name of their folder."""
    encoder = load_encoder("builtin", device="cpu")
    pictures = [picture.path for picture in demo_images()]
    animals = [picture for picture in pictures if picture.parent.name == "animals"]
    lexicon = Lexicon.wordnet(min_frequency=150)
    plain = MCM(encoder).fit(CLASSES)
    refined = NegRefine(encoder, lexicon=lexicon, top_fraction=0.5, n_groups=4, n_candidates=3).fit(
        CLASSES
    )
    softer = MCM(encoder, temperature=0.5).fit(CLASSES)
    plain.calibrate(animals, fpr=0.1, delta=0.2)
    refined.calibrate(animals, fpr=0.2, by="class")
    return {"mcm": plain, "negrefine-by-class": refined, "mcm-without-threshold": softer}


def main() -> None:
    pictures = [picture.path for picture in demo_images()][::60]
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    folder = FOLDER / (version[1] if version else "unknown")
    expected = {}
    for name, detector in made().items():
        detector.save(folder / name)
        explanations = [detector.explain(picture) for picture in pictures]
        expected[name] = {
            "scores": [round(each.score, 9) for each in explanations],
            "thresholds": [each.threshold for each in explanations],
            "verdicts": [each.verdict for each in explanations],
        }
    content = {"pictures": [picture.name for picture in pictures], "detectors": expected}
    (folder / "expected.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
