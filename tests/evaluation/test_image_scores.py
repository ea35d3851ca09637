"""Scores of files: one row for each, with any encoder, past unreadable images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negrefine import MCM
from negrefine.benchmarks.bundled import demo_class_names
from negrefine.errors import ImageError, InputError
from negrefine.evaluation.image_scores import (
    ScoredImage,
    calibrate_files,
    detect_files,
    score_files,
)


@pytest.fixture
def files(folders: Path) -> list[Path]:
    """Sixteen animals and one file that is no image, in their order."""
    return sorted(path for path in (folders / "animals").rglob("*.png"))


@pytest.fixture
def detector(own_encoder: Any) -> MCM:
    return MCM(own_encoder).fit(demo_class_names())


def test_scores_with_an_encoder_of_ones_own(detector: MCM, files: list[Path]) -> None:
    rows = score_files(detector, files)
    assert [row.path for row in rows] == [str(path) for path in files]
    (broken,) = (row for row in rows if row.error is not None)
    assert broken.path.endswith("broken.png")
    assert broken.score is None
    assert broken.path in str(broken.error)
    readable = [path for path in files if path.name != "broken.png"]
    scores = [row.score for row in rows if row.error is None]
    np.testing.assert_allclose(scores, detector.score_samples(readable), atol=1e-9)


def test_paths_may_be_texts_in_any_list(detector: MCM, files: list[Path]) -> None:
    texts = np.array([str(path) for path in files])
    assert score_files(detector, texts) == score_files(detector, files)
    report = calibrate_files(detector, [str(path) for path in files], 0.1)
    assert report == calibrate_files(detector, files, 0.1)
    assert detect_files(detector, (str(path) for path in files)).n == 16
    with pytest.raises(InputError, match="images must be a list of images, not one str"):
        score_files(detector, str(files[0]))
    with pytest.raises(InputError, match=r"paths\[1\] must be the path of an image file, not of"):
        score_files(detector, [files[0], Image.new("RGB", (4, 4))])


def test_paths_may_come_from_a_generator(detector: MCM, files: list[Path], tmp_path: Path) -> None:
    expected = score_files(detector, files)
    for journal in (None, tmp_path / "rows.partial", tmp_path / "rows.partial"):
        assert score_files(detector, iter(files), journal=journal) == expected
    assert calibrate_files(detector, iter(files), 0.1) == calibrate_files(detector, files, 0.1)
    detector.calibrate_scores(np.linspace(0, 1, 50), 0.1)
    assert detect_files(detector, iter(files)) == detect_files(detector, files)
    assert score_files(detector, iter([])) == []


def test_calibrates_with_an_encoder_of_ones_own(detector: MCM, files: list[Path]) -> None:
    report = calibrate_files(detector, files, 0.1)
    assert report.n == 16
    assert report.rank == 1
    readable = [path for path in files if path.name != "broken.png"]
    assert report.threshold == detector.score_samples(readable).min() == detector.offset_
    assert len(report.errors) == 1
    assert "broken.png" in report.errors[0]
    detected = detect_files(detector, files)
    assert (detected.n, detected.n_flagged, detected.rate) == (16, 0, 0)
    assert detected.low == 0
    assert len(detected.errors) == 1
    rows = score_files(detector, files)
    assert {row.verdict for row in rows} == {"ID", None}
    assert [row.p_value is None for row in rows] == [row.error is not None for row in rows]


def test_says_how_many_can_be_read(detector: MCM, files: list[Path]) -> None:
    broken = [path for path in files if path.name == "broken.png"]
    with pytest.raises(ImageError, match="None of the 2 images could be read"):
        calibrate_files(detector, broken * 2, 0.5)
    readable = [path for path in files if path.name != "broken.png"][:9]
    with pytest.raises(
        InputError, match=r"3 of the 12 given could not be read; the first: .*broken"
    ):
        calibrate_files(detector, [*readable, *broken * 3], 0.08)


def test_a_journal_is_continued(detector: MCM, files: list[Path], tmp_path: Path) -> None:
    journal = tmp_path / "rows.partial"
    rows = score_files(detector, files[:5], journal=journal)
    lines = journal.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 5
    # A row of the journal counts, an unfinished line does not.
    changed = json.loads(lines[1])
    changed["row"]["score"] = 7.0
    lines[1] = json.dumps(changed)
    journal.write_text("\n".join([*lines, '{"stamp": "x']), encoding="utf-8")
    again = score_files(detector, files, journal=journal)
    assert again[0].score == 7.0
    assert again[1:5] == rows[1:]
    assert again[5:] == score_files(detector, files)[5:]
    # Another detector does not take it up.
    other = MCM(detector.encoder).fit(demo_class_names()[:5])
    assert score_files(other, files, journal=journal) == score_files(other, files)


def test_a_journal_knows_files_by_absolute_path_and_content(
    detector: MCM, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [path for path in files if path.name != "broken.png"][:3]
    journal = tmp_path / "rows.partial"
    for folder, picture in zip(("monday", "tuesday"), pictures, strict=False):
        (tmp_path / folder).mkdir()
        frame = tmp_path / folder / "frame.bmp"
        Image.open(picture).convert("RGB").resize((64, 64)).save(frame)
        os.utime(frame, (1e9, 1e9))
        monkeypatch.chdir(frame.parent)
        (row,) = score_files(detector, [Path("frame.bmp")], journal=journal)
        assert row.score == pytest.approx(detector.score_samples([frame])[0], abs=1e-9)
        assert row.path == "frame.bmp"
    # Another picture of the same size, with the time of modification set back.
    Image.open(pictures[2]).convert("RGB").resize((64, 64)).save(frame)
    os.utime(frame, (1e9, 1e9))
    (row,) = score_files(detector, [frame], journal=journal)
    assert row.score == pytest.approx(detector.score_samples([frame])[0], abs=1e-9)
    assert row.path == str(frame)


def test_lines_of_a_journal_that_are_no_rows_are_scored_again(
    detector: MCM, files: list[Path], tmp_path: Path
) -> None:
    journal = tmp_path / "rows.partial"
    files = [path for path in files if path.name != "broken.png"][:2]
    rows = score_files(detector, files, journal=journal)
    header, line, other = journal.read_bytes().splitlines()
    content = json.loads(line)

    def changed(**columns: Any) -> bytes:
        return json.dumps({**content, "row": {**content["row"], **columns}}).encode()

    def check(found: list[ScoredImage]) -> None:
        for row, right in zip(found, rows, strict=True):
            assert (row.path, row.nearest_class) == (right.path, right.nearest_class)
            assert row.score == row.parts["mcm"] == pytest.approx(right.score, abs=1e-6)
            assert row.similarity == pytest.approx(right.similarity, abs=1e-6)

    without = {name: value for name, value in content["row"].items() if name != "nearest_class"}
    damaged = [
        *(header, b"5", b"null", b"[]", b"{}", b"[" * 100_000, b'"x', b"\xff\xfe", bytes(300)),
        line[: len(line) // 2],
        line.replace(b'"score"', b'"s\0ore"'),
        json.dumps({"stamp": 3, "row": content["row"]}).encode(),
        json.dumps({"stamp": ["x"], "row": content["row"]}).encode(),
        json.dumps({"stamp": content["stamp"], "row": [1]}).encode(),
        json.dumps({"stamp": content["stamp"], "row": without}).encode(),
        changed(score="0.5"),
        changed(score=None),
        changed(score=True),
        changed(score=float("nan")),
        changed(path=None),
        changed(parts={}),
        changed(parts=[]),
        changed(parts={"mcm": "x"}),
        changed(parts={"mcm": 0.5, "more": 0.5}),
        changed(verdict="ID"),
        changed(nearest_class="no such class"),
        changed(nearest_class=["x"]),
        changed(similarity=None),
        changed(error=5),
        changed(more=1),
    ]
    for bad in damaged:
        journal.write_bytes(b"\n".join([header, bad, other, b""]))
        with pytest.warns(UserWarning, match=r"rows\.partial' that are no rows of results: 1;"):
            check(score_files(detector, files, journal=journal))
        first, second, third = journal.read_bytes().splitlines()
        assert [first, second] == [header, other]
        assert json.loads(third)["stamp"] == content["stamp"]
    journal.write_bytes(b"\n".join([header, *damaged, b""]))
    with pytest.warns(UserWarning, match=f"no rows of results: {len(damaged)};") as caught:
        check(score_files(detector, files, journal=journal))
    assert len(caught) == 1


def test_a_journal_must_be_a_file(detector: MCM, files: list[Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for journal in (tmp_path / "pipe", tmp_path):
        with pytest.raises(InputError, match="is a file that negrefine has not written"):
            score_files(detector, files, journal=journal)
