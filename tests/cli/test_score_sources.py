"""`negrefine score` on archives, lists and standard input, killed and resumed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.workspace import Workspace
from commands import NEGREFINE
from sources.kept_images import pictures, png, write_everything, write_tar

N_MANY = 400


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_run_killed_within_a_tar_gives_the_same_bytes(
    quick: Any, work: Workspace, tmp_path: Path
) -> None:
    write_tar(tmp_path / "a.tar", pictures(60))
    write_tar(tmp_path / "b.tar.gz", {**pictures(N_MANY), "00.png": b"broken"}, "w:gz")
    archives = [tmp_path / "a.tar", tmp_path / "b.tar.gz"]
    arguments = ["score", work.plain, *archives, "--batch-size", "8", "--out"]
    whole, out = tmp_path / "whole.csv", tmp_path / "scores.csv"
    assert quick(*arguments, whole).code == 0
    journal = tmp_path / "scores.csv.partial"
    process = subprocess.Popen(
        [*NEGREFINE, *arguments, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > 100:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    lines = journal.read_text("utf-8").splitlines()
    assert 100 < len(lines) < N_MANY
    assert sum('"finished"' in line for line in lines) == 1
    # The first archive was read to its end, and is not read again: a changed row shows it.
    first = json.loads(lines[1])
    score, first["row"]["score"] = first["row"]["score"], 7.0
    torn = '{"stamp": "' + "x" * 20
    journal.write_text("\n".join([lines[0], json.dumps(first), *lines[2:], torn]), "utf-8")
    done = quick(*arguments, out)
    assert done.code == 0, done.err
    assert f"Wrote {60 + N_MANY + 1} rows" in done.err
    text = out.read_text("utf-8")
    assert ",7.0," in text.splitlines()[1]
    expected = whole.read_text("utf-8").splitlines()
    assert str(score)[:12] in expected[1]
    assert text.splitlines()[2:] == expected[2:]
    assert not journal.exists()


def test_names_on_standard_input_are_answered_while_they_come(
    work: Workspace, tmp_path: Path
) -> None:
    archive = write_tar(tmp_path / "a.tar", pictures(3))
    with subprocess.Popen(
        [*NEGREFINE, "score", work.plain, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        picture = work.pictures / work.good[1]
        for line, names in (
            (f"# nothing\n\n{picture}\n", [str(picture)]),
            (f"{archive}\n", [f"{archive}/{i:03}.png" for i in range(3)]),
            (f"{tmp_path / 'gone.png'}\n{picture}\n", [str(tmp_path / "gone.png"), str(picture)]),
        ):
            process.stdin.write(line.encode())
            process.stdin.flush()
            # The next line is written when these are answered.
            rows = [json.loads(process.stdout.readline()) for _ in names]
            assert [row["path"] for row in rows] == names
            assert [row["error"] is None for row in rows] == ["gone" not in n for n in names]
        # Who reads goes away: no traceback, no message.
        process.stdout.close()
        process.stdin.write(f"{picture}\n".encode())
        process.stdin.close()
        messages = process.stderr.read().decode()
        assert process.wait(60) == 1
    assert messages.count("\n") == 1, messages
    assert "no threshold" in messages


def test_calibrate_and_score_on_archives(quick: Any, work: Workspace, tmp_path: Path) -> None:
    good, odd = (
        write_tar(tmp_path / f"{name}.tar", dict(list(pictures(50).items())[part]))
        for name, part in (("good", slice(0, 30)), ("odd", slice(30, 50)))
    )
    fit = ["fit", "--classes", work.classes, "--encoder", "builtin", "--method", "mcm", "--out"]
    assert quick(*fit, tmp_path / "detector").code == 0
    calibrate = ["calibrate", tmp_path / "detector", "--id", good, "--fpr", "0.1"]
    done = quick(*calibrate, "--ood", odd, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["calibration"]["n"] == 30
    assert report["ood"][str(odd)]["n"] == 20
    scored = tmp_path / "scores.jsonl"
    assert quick("score", tmp_path / "detector", odd, "--out", scored).code == 0
    rows = [json.loads(line) for line in scored.read_text("utf-8").splitlines()]
    assert sum(row["verdict"] == "OOD" for row in rows) == report["ood"][str(odd)]["n_flagged"]
    assert "in-distribution images too" in quick(*calibrate, "--ood", good).failed()
    for option, value in (("--report", tmp_path / "page.html"), ("--sort-into", tmp_path / "s")):
        sentence = quick("score", tmp_path / "detector", odd, option, value).failed()
        assert sentence.startswith(f"{option} needs images that are files of this machine")


def test_the_commands_of_the_documentation_run(quick: Any, work: Workspace, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")
    write_everything(tmp_path)
    (tmp_path / "shards").mkdir()
    for i in range(3):
        write_tar(tmp_path / "shards" / f"{i:03}.tar", pictures(4))
    # A copy, which gets a threshold.
    shutil.copytree(work.plain, tmp_path / "detector")
    names = {"folder": "photos", "structs.parquet": "photos.parquet", "all.zip": "photos.zip"}
    for old, new in names.items():
        (tmp_path / old).rename(tmp_path / new)
    (tmp_path / "list.txt").write_text("# two\nphotos/000.png\nphotos/001.png\n", "utf-8")
    block = text.split("```bash\n")[1].split("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    ran = 0
    for command in commands:
        if command[:1] == ["negrefine"] and "|" not in command:
            done = quick(*command[1:], cwd=tmp_path)
            assert done.code == 0, (command, done.err)
            ran += 1
    assert ran == 5
    assert (tmp_path / "scores.csv").read_text("utf-8").count("\n") == 1 + 12


def test_fit_and_explain_take_what_score_takes(quick: Any, work: Workspace, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    for name, content in list(pictures(30).items()):
        (good / name).write_bytes(content)
    write_tar(tmp_path / "good.tar", pictures(30))
    write_tar(tmp_path / "odd.tar", pictures(10))
    table = pa.table({"a": [png(0)], "b": [b"no image"]})
    pq.write_table(table, tmp_path / "two.parquet")
    names = ["--classes", work.classes, "--encoder", "builtin"]
    thresholds = []
    for source in (good, tmp_path / "good.tar"):
        out = tmp_path / f"detector-{source.name}"
        fit = ["fit", *names, "--method", "mcm", "--calibrate", source, "--fpr", "0.1"]
        done = quick(*fit, "--out", out)
        assert done.code == 0, done.err
        assert "from 30 images, false-alarm rate <= 0.1" in done.out
        thresholds.append(json.loads((out / "detector.json").read_text("utf-8"))["offset"])
    assert thresholds[0] == pytest.approx(thresholds[1], abs=1e-6)
    refused = quick(*fit[:-3], tmp_path / "odd.tar", "--out", tmp_path / "few")
    assert "needs at least 19 in-distribution images" in refused.failed()
    assert "was saved to" in refused.err

    explain = ["explain", work.detector, "--top", 1, "--json"]
    (row,) = map(json.loads, quick(*explain, good / "000.png").out.splitlines())
    packed = quick(*explain, tmp_path / "good.tar").out.splitlines()
    assert len(packed) == 30
    again = json.loads(packed[0])
    assert again["path"] == f"{tmp_path}/good.tar/000.png"
    assert again["score"] == pytest.approx(row["score"], abs=1e-6)
    card = quick(*explain, tmp_path / "good.tar", "--card", "c.png")
    assert "draws one image, not 30" in card.failed()
    both = quick(*explain, tmp_path / "two.parquet", "--image-column", "b")
    assert "two.parquet/0: is not an image" in both.err
    assert both.code == 1
    twice = ["calibrate", work.plain, "--id", "-", "--ood", "-"]
    assert "'-') is named twice" in quick(*twice).failed()
