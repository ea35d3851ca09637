"""What explanations say beyond scores, and the card that shows them."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import Commands
from negrefine import MCM, Detector, NegRefine
from negrefine.detectors.explanation import Explanation, Match, verdict_sentences
from negrefine.encoders import CLIPEncoder


@pytest.fixture(scope="module")
def detector(detectors: dict[str, Detector], demo_pictures: list[Path]) -> NegRefine:
    detector = copy(detectors["negrefine"])
    assert isinstance(detector, NegRefine)
    return detector.calibrate(demo_pictures, 0.3)


def test_definitions_are_of_the_meaning_in_the_file(
    detector: NegRefine, demo_pictures: list[Path]
) -> None:
    matches = {m.text: m for m in detector.explain(demo_pictures[0], top=100).negatives}
    assert matches["hammer"].lexname == "noun.artifact"
    assert matches["moss"].definition.startswith("tiny leafy-stemmed flowerless plants")
    assert len([m for m in matches.values() if not m.definition]) < len(matches) / 4
    # Of a phrase like "gooey landscape" the adjective is explained.
    known = {
        "gooey": "soft and sticky",
        "quiet": "absence",
        "hollow": "cavity",
        "bitter": "resentment",
    }
    phrases = [(m, known.get(text.split()[0])) for text, m in matches.items() if " " in text]
    said = [word in match.definition for match, word in phrases if word is not None]
    assert len(said) >= 2
    assert all(said)


def test_what_decided(detector: NegRefine, demo_pictures: list[Path]) -> None:
    features = detector.encoder.encode_images(demo_pictures)
    parts = detector.score_feature_parts(features)
    assert detector.calibration_scores_ is not None
    other = copy(detector)
    seen = set()
    p_values = detector.p_values_features(features)
    for offset in (*np.quantile(detector.calibration_scores_, [0.1, 0.5]), 0.1, 2.9):
        other.offset_ = float(offset)
        for row, explanation in enumerate(other.explain_features(features)):
            values = parts["neglabel"][row] + other.alpha * np.linspace(0, 1, 11)
            open_verdict = len(set(values >= offset)) == 2
            assert explanation.decided_by == ("multi_match" if open_verdict else "neglabel")
            seen.add(explanation.decided_by)
            assert explanation.pair is not None
            assert explanation.pair.added == pytest.approx(2 * parts["multi_match"][row])
            assert explanation.p_value == p_values[row]
    assert seen == {"neglabel", "multi_match"}
    other.offset_ = None
    assert other.explain_features(features)[0].decided_by is None


def test_without_the_filter(detector: NegRefine, demo_pictures: list[Path]) -> None:
    features = detector.encoder.encode_images(demo_pictures[:5])
    expected = detector.with_filter("none").score_features(features)
    assert np.abs(expected - detector.score_features(features)).max() > 1e-4
    gone = {label.text for label in detector.negative_labels_ if not label.kept}
    for row, explanation in enumerate(detector.explain_features(features, unfiltered=True)):
        found = explanation.unfiltered
        assert found is not None
        assert found.score == pytest.approx(expected[row], abs=1e-6)
        assert found.verdict == ("ID" if expected[row] >= detector.offset_ else "OOD")
        assert found.n_removed == len(gone)
        assert {match.text for match in found.removed} <= gone
        similarities = [match.similarity for match in found.removed]
        assert similarities == sorted(similarities, reverse=True)
    assert detector.explain(demo_pictures[0]).unfiltered is None
    # A parameter that changed since the labels were kept is followed.
    other = copy(detector).set_params(alpha=0.0)
    again = other.explain_features(features, unfiltered=True)[0].unfiltered
    assert again is not None
    assert 0 <= again.score <= 1
    bare = detector.with_filter("none").explain_features(features, unfiltered=True)
    assert bare[0].unfiltered is None


def test_sentences(detector: NegRefine, demo_pictures: list[Path]) -> None:
    explanation = detector.explain(demo_pictures[0], unfiltered=True)
    first, *rest = verdict_sentences(explanation)
    assert first.startswith(
        {"ID": "In-distribution: ", "OOD": "Out-of-distribution: "}[str(explanation.verdict)]
    )
    assert f"p-value {explanation.p_value:.3g}" in rest[0]
    assert f"{explanation.unfiltered.score:.4f}" in rest[-1]  # type: ignore[union-attr]
    bare = verdict_sentences(replace(explanation, threshold=None, verdict=None))
    assert bare[0].startswith("No verdict")


def test_on_the_command_line(
    builtin_encoder: CLIPEncoder,
    detector: NegRefine,
    demo_pictures: list[Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    detector.save(tmp_path / "detector")
    MCM(builtin_encoder).fit(["dog", "cat"]).save(tmp_path / "mcm")
    commands = Commands(tmp_path_factory.mktemp("commands"))
    picture, card = demo_pictures[0], tmp_path / "card.png"
    try:
        done = commands("explain", tmp_path / "detector", picture, "--card", card)
        assert done.code == 0, done.err
        expected = detector.explain(picture, unfiltered=True)
        for sentence in verdict_sentences(expected)[1:]:
            assert sentence in done.out
        assert "removed labels" in done.out
        with Image.open(card) as drawn:
            assert (drawn.format, drawn.width) == ("PNG", 1200)
        done = commands("explain", tmp_path / "detector", picture, "--json")
        content = json.loads(done.out)
        assert content["unfiltered"]["score"] == pytest.approx(expected.unfiltered.score)  # type: ignore[union-attr]
        assert content["decided_by"] == expected.decided_by
        assert commands("explain", tmp_path / "mcm", picture, "--card", card).code == 0
        for arguments, said in (
            ([picture, "--card", tmp_path / "card.jpg"], "end its name in .png"),
            ([*demo_pictures[:2], "--card", card], "draws one image, not 2"),
        ):
            assert said in commands("explain", tmp_path / "detector", *arguments).failed()
        # Nothing half-written is left.
        done = commands("explain", tmp_path / "mcm", picture, "--card", tmp_path / "no" / "c.png")
        assert done.code == 1
        assert "cannot be written" in done.err
        names = sorted(file.name for file in tmp_path.iterdir())
        assert names == ["card.png", "detector", "mcm"]
    finally:
        commands.close()


@pytest.mark.parametrize(
    ("verdict", "negative", "sentence"),
    [
        ("OOD", 0.3, "Closest to 'banana', but 'mausoleum' fits better: not one of your classes."),
        ("OOD", 0.1, "Closest to 'banana', but not close enough: not one of your classes."),
        ("OOD", None, "Closest to 'banana', but not close enough: not one of your classes."),
        ("ID", 0.1, "Closest to 'banana': one of your classes."),
        (
            "ID",
            0.3,
            "Closest to 'banana', though 'mausoleum' alone fits better: one of your classes.",
        ),
        (None, 0.1, "Closest to 'banana'; no verdict, because the detector has no threshold."),
    ],
)
def test_headline(verdict: str | None, negative: float | None, sentence: str) -> None:
    explanation = Explanation(
        score=0.5,
        parts={},
        threshold=None if verdict is None else 0.4,
        verdict=verdict,
        classes=[Match("banana", 0.2), Match("apple", 0.15)],
        negatives=[] if negative is None else [Match("mausoleum", negative)],
    )
    assert explanation.headline() == sentence
