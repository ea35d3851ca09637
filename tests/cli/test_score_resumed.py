"""`negrefine score` continues an interrupted run."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli.workspace import Workspace
from commands import NEGREFINE
from negrefine import load_detector
from negrefine.evaluation.scored_image import ScoredImage

N_MANY = 1000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand small pictures and a broken one."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for i, pixels in enumerate(rng.integers(0, 256, (N_MANY - 1, 12, 12, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:05}.png", compress_level=0)
    (folder / "broken.png").write_bytes(b"")
    return folder


def killed_midway(detector: Path, images: Path, out: Path) -> list[str]:
    """Start `score`, kill it when its journal has rows, and return the journal's lines."""
    journal = out.with_name(out.name + ".partial")
    process = subprocess.Popen(
        [*NEGREFINE, "score", detector, images, "--out", out],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.stat().st_size > 20_000:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    assert not out.exists()
    return journal.read_text(encoding="utf-8").splitlines()


def read_scores(out: Path) -> dict[str, str]:
    with out.open(encoding="utf-8", newline="") as stream:
        return {Path(row["path"]).name: row["score"] for row in csv.DictReader(stream)}


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_an_interrupted_run_goes_on(
    quick: Any, work: Workspace, many: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.csv"
    assert quick("score", work.plain, many, "--out", whole).code == 0
    expected = read_scores(whole)
    assert len(expected) == N_MANY

    out = tmp_path / "scores.csv"
    journal = tmp_path / "scores.csv.partial"
    lines = killed_midway(work.plain, many, out)
    assert 1 < len(lines) < N_MANY
    # A value that no picture has shows which rows come from the journal.
    first = json.loads(lines[1])
    assert first["row"]["score"] == pytest.approx(float(expected["00000.png"]), abs=1e-6)
    first["row"]["score"] = 123.0
    lines[1] = json.dumps(first)
    torn = '{"stamp": "' + "x" * 20
    journal.write_text("\n".join([*lines, torn]), encoding="utf-8")
    done = quick("score", work.plain, many, "--out", out)
    assert done.code == 0, done.err
    assert f"Wrote {N_MANY} rows" in done.err
    scores = read_scores(out)
    assert list(scores) == list(expected)
    assert scores.pop("00000.png") == "123.0"
    assert scores.pop("broken.png") == ""
    for name, score in scores.items():
        assert float(score) == pytest.approx(float(expected[name]), abs=1e-6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scores.csv", "whole.csv"]

    # The journal of another detector and one of changed files are of no use.
    header, *rows = lines
    other = json.dumps({"detector": "0" * 64, "encoder": "0" * 64})
    changed = [row.replace(many.name, f"{many.name}-other") for row in rows]
    for content in ("\n".join([other, *rows]), "\n".join([header, *changed])):
        journal.write_text(content + "\n", encoding="utf-8")
        few = [many / f"{i:05}.png" for i in range(3)]
        assert quick("score", work.plain, *few, "--out", out).code == 0
        assert float(read_scores(out)["00000.png"]) < 1
        assert not journal.exists()


def test_a_journal_is_tied_to_the_detector_and_the_file(
    quick: Any, work: Workspace, tmp_path: Path
) -> None:
    """A file that changed is scored again, and one that could not be read is tried again."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes((work.pictures / "1.png").read_bytes())
    (images / "b.png").write_bytes(b"")
    out, journal = tmp_path / "s.jsonl", tmp_path / "s.jsonl.partial"

    def go(folder: Path) -> dict[str, Any]:
        # The last step of a run cannot be done while a folder has the name of its result.
        done = quick("score", work.plain, folder, "--out", out)
        assert done.code == 0, done.err
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        return {Path(row["path"]).name: row for row in rows}

    before = go(images)
    assert "empty" in before["b.png"]["error"]
    detector = load_detector(work.plain)
    identity = {
        "detector": detector.identity(),
        "encoder": detector.encoder.fingerprint,
        "columns": [each.name for each in fields(ScoredImage)],
    }
    entries = [json.dumps(identity)]
    for name, row in before.items():
        status = (images / name).stat()
        times = f"{status.st_mtime_ns}|{status.st_ctime_ns}"
        stamp = f"{images / name}|{status.st_size}|{times}"
        parts = {"mcm": row["mcm"]} if row["error"] is None else {}
        entry = {"path": row["path"], "score": row["score"], "parts": parts}
        columns = {each.name for each in fields(ScoredImage)} & row.keys()
        entry |= {name: row[name] for name in sorted(columns)}
        if entry["score"] is not None:
            entry["score"] = 77.0
        entries.append(json.dumps({"stamp": stamp, "row": entry}))
    content = "\n".join(entries) + "\n"

    journal.write_text(content, encoding="utf-8")
    assert go(images)["a.png"]["score"] == 77.0
    journal.write_text(content, encoding="utf-8")
    (images / "a.png").write_bytes((work.pictures / "2.png").read_bytes())
    changed = go(images)
    assert 0 < changed["a.png"]["score"] < 1
    assert changed["a.png"]["score"] != before["a.png"]["score"]
