"""`negrefine score`: one row for each image, whatever the image."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cli.workspace import Workspace, make_broken_images
from negrefine import load_detector
from negrefine.encoders import CLIPEncoder


def check_rows(rows: list[dict[str, Any]], work: Workspace, encoder: CLIPEncoder) -> None:
    detector = load_detector(work.detector, encoder=encoder)
    assert [Path(row["path"]).name for row in rows] == sorted([*work.good, *work.broken])
    by_name = {Path(row["path"]).name: row for row in rows}
    expected = detector.score_samples([work.pictures / name for name in work.good])
    parts = detector.score_parts([work.pictures / name for name in work.good])
    for i, name in enumerate(work.good):
        row = by_name[name]
        assert row["error"] in (None, "")
        assert float(row["score"]) == pytest.approx(expected[i], abs=1e-6)
        for part in ("neglabel", "multi_match"):
            assert float(row[part]) == pytest.approx(parts[part][i], abs=1e-6)
        assert detector.offset_ is not None
        assert row["verdict"] == ("ID" if expected[i] >= detector.offset_ else "OOD")
        first, second = detector.explain(work.pictures / name, top=2).classes
        assert (row["nearest_class"], row["runner_up"]) == (first.text, second.text)
        assert float(row["similarity"]) == pytest.approx(first.similarity, abs=1e-6)
        assert float(row["runner_up_similarity"]) == pytest.approx(second.similarity, abs=1e-6)
    for name, word in work.broken.items():
        row = by_name[name]
        assert row["score"] in (None, "")
        assert row["verdict"] in (None, "")
        assert word in row["error"]
        assert name in row["error"]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "stdout"])
def test_one_row_for_each_image(
    quick: Any, work: Workspace, builtin_encoder: CLIPEncoder, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / "new" / f"scores.{suffix}"
    to = [] if suffix == "stdout" else ["--out", out]
    done = quick("score", work.detector, work.pictures, *to, "--batch-size", 4)
    assert done.code == 0, done.err
    assert "\r" not in done.err
    assert "\x1b" not in done.err
    warning, *rest = done.err.splitlines()
    assert warning.startswith("negrefine: warning: 5 of 13 images could not be read; the first: ")
    if suffix == "stdout":
        rows = list(csv.DictReader(io.StringIO(done.out)))
        assert rest == []
    else:
        assert done.out == ""
        line, pairs = rest
        # 8 readable images, each with 5 x 5 pairs.
        assert pairs.startswith("Pairs of names: 200 asked, ")
        assert line.startswith(f"Wrote 13 rows to {out}, ")
        assert line.endswith(" flagged OOD.")
        assert [file.name for file in out.parent.iterdir()] == [out.name]
    if suffix == "csv":
        with out.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    elif suffix == "parquet":
        rows = pq.read_table(out).to_pylist()
        assert str(pq.read_schema(out).field("score").type) == "double"
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    classes = ["nearest_class", "similarity", "runner_up", "runner_up_similarity"]
    classes += ["nearest_negative", "negative_similarity"]
    parts = ["neglabel", "multi_match"]
    assert list(rows[0]) == ["path", "score", *parts, "p_value", "verdict", *classes, "error"]
    check_rows(rows, work, builtin_encoder)


def test_no_threshold_no_verdict(quick: Any, work: Workspace) -> None:
    done = quick("score", work.plain, work.pictures / "1.png", work.pictures / "2.png")
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert line.startswith("negrefine: warning: the detector has no threshold, so the column verd")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert list(rows[0]) == [
        *("path", "score", "mcm", "verdict", "nearest_class", "similarity"),
        *("runner_up", "runner_up_similarity", "nearest_negative", "negative_similarity", "error"),
    ]
    assert [row["verdict"] for row in rows] == ["", ""]
    assert all(row["score"] == row["mcm"] for row in rows)
    assert all(row["nearest_negative"] == "" for row in rows)


def test_nothing_could_be_read(quick: Any, work: Workspace, tmp_path: Path) -> None:
    make_broken_images(tmp_path)
    out = tmp_path / "scores.csv"
    done = quick("score", work.plain, tmp_path, "--out", out)
    assert done.code == 1
    assert "5 of 5 images could not be read" in done.err
    assert done.err.splitlines()[-1].startswith("negrefine: error: No image could be read")
    assert "Traceback" not in done.err
    assert len(out.read_text(encoding="utf-8").splitlines()) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode here")
def test_file_names_that_are_no_text(quick: Any, work: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    data = (work.pictures / "1.png").read_bytes()
    (folder / 'a,\n"b".png').write_bytes(data)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(data)
    Path(os.fsdecode(os.fsencode(folder) + b"/no\xff.png")).write_bytes(b"")
    for to in ([], ["--out", "s.csv"], ["--out", "s.parquet"], ["--out", "s.jsonl"]):
        done = quick("score", work.plain, folder, *to, cwd=tmp_path)
        assert done.code == 0, done.err
        assert "1 of 3 images could not be read" in done.err
    paths = [row["path"] for row in pq.read_table(tmp_path / "s.parquet").to_pylist()]
    assert [Path(path).name for path in paths] == ['a,\n"b".png', r"caf\udce9.png", r"no\udcff.png"]
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == paths
    assert quick("explain", work.plain, folder / "caf\udce9.png").code == 0


def test_score_says_what_is_wrong(quick: Any, work: Workspace, tmp_path: Path) -> None:
    image = work.pictures / "1.png"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder.csv").mkdir()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in work.plain.iterdir():
        data = file.read_bytes()
        (damaged / file.name).write_bytes(data[:-100] if "features" in file.name else data)
    for arguments, said in (
        ([work.plain, tmp_path / "empty"], "the folder holds no image"),
        ([work.plain, tmp_path / "nowhere.png"], "there is no such file or folder"),
        ([work.plain, str(tmp_path / "*.webp")], "the pattern matches no image"),
        ([tmp_path / "nowhere", image], "holds no saved detector"),
        ([damaged, image], "is damaged (features-"),
        ([work.plain, image, "--encoder", tmp_path / "empty"], "holds no config.json"),
        ([work.plain, image, "--out", "scores.xlsx"], "end the name in .parquet, .csv or .jsonl"),
        ([work.plain, image, "--out", "file/scores.csv"], "The results cannot be written to"),
        ([work.plain, image, "--out", "folder.csv"], "Is a directory"),
        ([work.plain, image, "--ray", "local"], "give a folder for them with --out"),
        (
            [work.plain, image, "--ray", "local", "--out", "s.csv"],
            "give --out the name of a folder",
        ),
        ([work.plain, "-", "--ray", "local", "--out", "s"], "Standard input cannot be read by sev"),
        (
            [work.plain, image, "--ray", "local", "--out", "s", "--report", "page.html"],
            "--report and --sort-into do not work with --ray",
        ),
    ):
        assert said in quick("score", *arguments, cwd=tmp_path).failed()
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        (tmp_path / "empty").chmod(0o500)
        said = "The results cannot be written to"
        out = tmp_path / "empty" / "s.csv"
        assert said in quick("score", work.plain, image, "--out", out).failed()


@pytest.mark.parametrize("command", ["score", "explain"])
def test_images_before_the_detector(quick: Any, work: Workspace, command: str) -> None:
    picture = work.pictures / work.good[1]
    said = quick(command, picture, work.plain).failed()
    assert said == (
        f"'{picture}' is no saved detector, and '{work.plain}' is one: give the detector first, "
        "then the images."
    )
