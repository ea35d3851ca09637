"""The images with the highest and the lowest scores, readable ones only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from negrefine.evaluation.results import Evaluation, SetScores
from negrefine.report.mistakes import THUMBNAIL_SIZE, find_mistakes


def image_set(name: str, scores: list[float | None], root: Path) -> SetScores:
    """Return a set with two classes; images without a score are unreadable."""
    values = np.array([np.nan if score is None else score for score in scores])
    n = len(scores)
    for i in range(n):
        Image.new("RGB", (300, 150), (0, 0, 10 * i)).save(root / f"{name}{i}.png")
    return SetScores(
        name,
        [f"{name}{i}.png" for i in range(n)],
        np.array([i % 3 - 1 for i in range(n)]),
        np.array([-1 if score is None else 1 for score in scores]),
        ["broken" if score is None else None for score in scores],
        [f"folder {i}" for i in range(n)],
        {"m": {0: values, 1: -values}},
        {"m": {"part": 2 * values}},
    )


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """One set against two, with relative paths."""
    id_set = image_set("ID", [0.5, None, 0.2, 0.2, 0.9], tmp_path)
    ood_sets = [image_set("a", [0.1, 0.7], tmp_path), image_set("b", [None, 0.7, 0.8], tmp_path)]
    return Evaluation(
        tmp_path, "", ["cat", "dog"], ["m"], id_set, ood_sets, [], [], None, {}, {"m": tmp_path}
    )


def test_highest_and_lowest_scores(evaluation: Evaluation) -> None:
    def paths(sets: list[SetScores], n: int, *, highest: bool) -> list[str]:
        found = find_mistakes(evaluation, "m", sets, 0.5, None, n, highest=highest)
        assert all(mistake.accepted == (mistake.score >= 0.5) for mistake in found)
        assert all(mistake.parts == {"part": 2 * mistake.score} for mistake in found)
        return [mistake.file_name for mistake in found]

    assert paths(evaluation.ood_sets, 3, highest=True) == ["b2.png", "a1.png", "b1.png"]
    assert paths([evaluation.id_set], 3, highest=False) == ["ID2.png", "ID3.png", "ID0.png"]
    assert len(paths([evaluation.id_set], 9, highest=False)) == 4
    assert paths([evaluation.id_set], 0, highest=False) == []


def test_says_what_an_image_is(evaluation: Evaluation) -> None:
    first, *_, last = find_mistakes(
        evaluation, "m", [evaluation.id_set], 0.5, None, 4, highest=False
    )
    assert (first.truth, first.predicted, first.set_name) == ("dog", "dog", "ID")
    assert last.truth == "cat"
    (unlabelled,) = find_mistakes(
        evaluation, "m", evaluation.ood_sets[:1], 0.5, None, 1, highest=False
    )
    assert unlabelled.truth == "folder 0"
    assert first.size == (THUMBNAIL_SIZE, THUMBNAIL_SIZE // 2)
    assert first.thumbnail.startswith("data:image/")
    assert first.problem == ""
    gone = replace(evaluation, directory=evaluation.directory / "elsewhere")
    (missing,) = find_mistakes(gone, "m", [gone.id_set], 0.5, None, 1, highest=False)
    assert missing.thumbnail == ""
    assert "ID2.png: there is no such file" in missing.problem
