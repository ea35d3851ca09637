"""A program that uses the public interface, for type checkers: run by nobody, checked strictly.

`make lint` runs mypy on it together with the package, `make types` mypy and pyright with the
package as it is installed, as a user's own checker would (py.typed).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import assert_type

import negrefine
from negrefine import (
    MCM,
    Answer,
    Detector,
    Judge,
    Lexicon,
    Monitor,
    NegRefine,
    Prompts,
    load_detector,
    load_encoder,
)
from negrefine.constraints import POSITIVE
from negrefine.detectors import DETECTORS, Explanation, detector, parameter, register
from negrefine.errors import BundleError, NegrefineError


class Suffix:
    """A judge of one's own."""

    name = "suffix"

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer | bool | None]:
        return [word[0].isupper() for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer | bool | None]:
        return [word.endswith(name) for word, name in pairs]


judge: Judge = Suffix()


def fit(names: list[str]) -> NegRefine:
    encoder = load_encoder("builtin", device="cpu")
    lexicon = Lexicon.wordnet(min_frequency=5)
    made = NegRefine(
        encoder, judge=judge, lexicon=lexicon, alpha=2.0, k=5, prompts=Prompts(("{}",))
    )
    return assert_type(made.fit(names, progress=True), NegRefine)


def score(made: Detector, images: list[Path]) -> NDArray[np.float64]:
    assert_type(made.class_names_, list[str])
    assert_type(made.offset_, float | None)
    scores = made.score_samples([*images, Image.new("RGB", (8, 8)), np.zeros((8, 8, 3))])
    explanation = assert_type(made.explain(images[0], top=3), Explanation)
    for match in explanation.classes:
        assert_type(
            (match.text, match.similarity, explanation.verdict), tuple[str, float, str | None]
        )
    return scores


def share(made: Detector) -> Detector:
    made.calibrate(["a.jpg"], fpr=0.05, delta=None)
    made.save("detector")
    address = assert_type(made.push_to_hub("ann/fruits", private=False, licence="mit"), str)
    try:
        return assert_type(load_detector(address, device="cpu"), Detector)
    except BundleError as error:
        failure: NegrefineError = error
        raise SystemExit(str(failure)) from failure


def watch(place: Path, p_values: list[float]) -> None:
    monitor = Monitor.of(load_detector(place), alpha=0.01)
    for p_value in p_values:
        monitor.update(p_value)
    assert_type(monitor.status().as_dict(), dict[str, Any])


@detector
class Largest(Detector):
    """A method of one's own."""

    method, title, parts = "largest", "Largest", ("largest",)
    scale: float = parameter(1.0, POSITIVE, "Multiplies the cosines.")


register(Largest)
assert_type(DETECTORS, dict[str, type[Detector]])
plain: Detector = MCM(load_encoder("builtin"))
assert_type(negrefine.metrics.auroc(np.ones(3), np.zeros(3)), float)
