"""A detector on an encoder that is not CLIP's, behind HTTP."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np

from encoders import family_models
from negrefine import Sigmoid, load_encoder
from serving.processes import Zygote


def test_a_siglip_is_served_with_the_scores_of_its_detector(
    zygote: Zygote, pictures: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    encoder = load_encoder(family_models.save("siglip", tmp_path / "model"), device="cpu")
    detector = Sigmoid(encoder).fit(["cat", "苹果", "قطة"])
    detector.save(tmp_path / "detector")
    server = zygote.start(f"other={tmp_path / 'detector'}")
    server.wait_until_ready()
    answer = server.post("/v1/score", pictures[:5])
    assert answer.status == 200
    found = [row["score"] for row in answer.json["results"]]
    expected = detector.score_samples([data for _, data in pictures[:5]])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert {row["nearest_class"] for row in answer.json["results"]} <= {"cat", "苹果", "قطة"}
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
