"""Detectors whose bytes a released version wrote are read, and score as they did then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from negrefine import load_detector
from negrefine.benchmarks.bundled import demo_images
from negrefine.encoders import CLIPEncoder

RELEASED = Path(__file__).with_name("released")


@pytest.mark.parametrize("version", sorted(folder.name for folder in RELEASED.iterdir()))
def test_detectors_of_released_versions_score_as_they_did(
    version: str, builtin_encoder: CLIPEncoder
) -> None:
    expected = json.loads((RELEASED / version / "expected.json").read_text(encoding="utf-8"))
    paths = {picture.path.name: picture.path for picture in demo_images()}
    pictures = [paths[name] for name in expected["pictures"]]
    assert len(pictures) >= 4
    for name, then in expected["detectors"].items():
        detector = load_detector(RELEASED / version / name, builtin_encoder)
        explanations = [detector.explain(picture) for picture in pictures]
        scores = [each.score for each in explanations]
        np.testing.assert_allclose(scores, then["scores"], rtol=1e-4, err_msg=name)
        assert [each.threshold for each in explanations] == then["thresholds"]
        assert [each.verdict for each in explanations] == then["verdicts"]


def test_both_formats_are_kept() -> None:
    formats = {
        json.loads(file.read_text(encoding="utf-8"))["format_version"]
        for file in RELEASED.glob("0.1.0/*/detector.json")
    }
    assert formats == {2, 3}
