"""`negrefine monitor`: result files and streams, each row counted once, also after a kill."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negrefine
from cli.test_imports import imports
from commands import NEGREFINE
from negrefine.files.writing import write_rows

NAMES = ["dog", "=owl", "cat"]
SCHEMA = {
    "path": "string",
    "score": "double",
    "p_value": "double",
    "verdict": "string",
    "nearest_class": "string",
    "error": "string",
}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated detector; its encoder's name leads nowhere, so that it cannot be loaded."""
    folder = tmp_path_factory.mktemp("monitored") / "detector"
    fitted = negrefine.MCM(negrefine.load_encoder("builtin")).fit(NAMES)
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 300)
    fitted.calibrate_scores(rng.normal(size=300), 0.05, classes=classes).save(folder)
    return folder


def result_rows(detector: Path, n: int, shift: float = 0.0, seed: int = 1) -> Rows:
    """Return rows as `score` makes them, each hundredth with an error; shifted from the middle."""
    owner = negrefine.load_detector(detector)
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, n)
    scores = rng.normal(size=n) - shift * (np.arange(n) >= n // 2)
    p = owner.p_values_scores(scores, classes).tolist()
    flagged = (scores < owner.image_thresholds(classes)).tolist()
    rows: Rows = []
    for i in range(n):
        row: dict[str, Any] = dict.fromkeys(SCHEMA) | {"path": f"{i}.png"}
        if i % 100 == 50:
            row["error"] = "cannot be read"
        else:
            row |= {"score": float(scores[i]), "p_value": p[i], "nearest_class": NAMES[classes[i]]}
            row["verdict"] = "OOD" if flagged[i] else "ID"
        rows.append(row)
    return rows


def write(path: Path, rows: Rows) -> Path:
    write_rows(path, rows, SCHEMA)
    return path


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def drifting(detector: Path) -> Rows:
    return result_rows(detector, 1200, shift=1.0)


def test_all_formats_and_streams_say_the_same(
    quick: Any, detector: Path, drifting: Rows, tmp_path: Path
) -> None:
    said = {}
    for suffix in (".jsonl", ".csv", ".parquet"):
        file = write(tmp_path / f"rows{suffix}", drifting)
        done = quick("monitor", detector, file, "--every", "300", "--json")
        assert (done.code, done.err) == (0, "")
        said[suffix] = objects(done.out)
    with (tmp_path / "rows.jsonl").open("rb") as stream:
        streamed = subprocess.run(
            [*NEGREFINE, "monitor", detector, "-", "--every", "300", "--json", "--fail-on-alarm"],
            stdin=stream,
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert (streamed.returncode, streamed.stderr) == (3, b"")
    said["-"] = objects(streamed.stdout.decode())
    for each in said.values():
        for event in each:
            event.pop("file", None)
    events = said["-"]
    assert all(each == events for each in said.values())
    statuses = [event for event in events if event["event"] == "status"]
    assert [status["n_images"] + status["n_errors"] for status in statuses] == [
        *(300, 600, 900, 1200)
    ]
    assert [status["alarm"] for status in statuses] == [False, False, True, True]
    assert statuses[-1]["n_errors"] == 12
    flagged = sum(row["verdict"] == "OOD" for row in drifting)
    assert statuses[-1]["flags"]["n_flagged"] == flagged
    names = [each["nearest_class"] for each in drifting]
    counts = {each["name"]: each["n_images"] for each in statuses[-1]["classes"]}
    assert counts == {name: names.count(name) for name in NAMES}
    alarms = [event for event in events if event["event"] == "alarm"]
    assert {alarm["detector"] for alarm in alarms} >= {"p-values", "flag share", "class p-values"}
    for alarm in alarms:
        assert alarm["path"] == f"{alarm['row'] - 1}.png"
        errors = sum(row["error"] is not None for row in drifting[: alarm["row"]])
        assert 600 < alarm["row"] == alarm["image"] + errors


def test_text_says_the_verdict_first_and_where_an_alarm_started(
    quick: Any, detector: Path, drifting: Rows, tmp_path: Path
) -> None:
    quiet = write(tmp_path / "quiet.csv", drifting[:500])
    done = quick("monitor", detector, quiet, "--fail-on-alarm")
    assert done.code == 0
    assert done.out.startswith(
        "No alarm after 495 images, 5 unreadable: too little to say that the stream has changed.\n"
        "  flagged: "
    )
    loud = write(tmp_path / "loud.csv", drifting)
    done = quick("monitor", detector, loud, "--fail-on-alarm", "--every", "100000")
    assert done.code == 3
    first = done.out.splitlines()[0]
    assert first.startswith(("ALARM p-values: ", "ALARM flag share: ")), first
    assert f" of {loud}, " in first
    assert "\nALARM after 1,188 images, 12 unreadable: the stream differs" in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_goes_on_and_counts_nothing_twice(
    quick: Any, detector: Path, drifting: Rows, tmp_path: Path
) -> None:
    rows = drifting * 3
    file, state = write(tmp_path / "rows.jsonl", rows), tmp_path / "state.json"
    command = ["monitor", detector, file, "--every", "50", "--json", "--state"]
    whole = quick(*command, tmp_path / "whole.json")
    assert whole.code == 0
    process = subprocess.Popen(
        [*NEGREFINE, *map(str, command), str(state)], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if state.exists() and json.loads(state.read_bytes())["n_images"] > 400:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    n_counted = json.loads(state.read_bytes())["n_images"]
    assert 400 < n_counted < 3_500
    rest = quick(*command, state)
    assert rest.code == 0
    assert objects(rest.out) == objects(whole.out)[-len(objects(rest.out)) :]
    assert len(objects(rest.out)) < len(objects(whole.out))

    def content(path: Path) -> bytes:
        return path.read_bytes()

    assert content(state) == content(tmp_path / "whole.json")
    # Once more there is nothing new.
    again = quick(*command, state)
    assert objects(again.out) == objects(whole.out)[-1:]
    assert content(state) == content(tmp_path / "whole.json")


def test_a_file_that_grows_is_followed_to_its_last_whole_line(
    quick: Any, detector: Path, drifting: Rows, tmp_path: Path
) -> None:
    for suffix in (".jsonl", ".csv"):
        whole = write(tmp_path / f"whole{suffix}", drifting[:300]).read_bytes()
        file, state = tmp_path / f"growing{suffix}", tmp_path / f"state{suffix}"
        cut = whole.index(b"\n", len(whole) // 2) + 20
        file.write_bytes(whole[:cut])
        done = quick("monitor", detector, file, "--state", state, "--json")
        assert done.code == 0
        assert "last line of a file of results is unfinished" in done.err
        (status,) = objects(done.out)
        n_first = whole[:cut].count(b"\n") - (suffix == ".csv")
        assert status["n_images"] + status["n_errors"] == n_first
        file.write_bytes(whole)
        done = quick("monitor", detector, file, "--state", state, "--json")
        assert (done.code, done.err) == (0, "")
        (status,) = objects(done.out)
        assert (status["n_images"], status["n_errors"]) == (297, 3)
        # Then a row of what was counted is another.
        file.write_bytes(whole.replace(b"17.png", b"71.png", 1))
        sentence = quick("monitor", detector, file, "--state", state).failed()
        assert sentence.startswith(f"The first 300 rows of '{file}' were counted before and have")
        file.write_bytes(whole[:cut])
        assert "have changed" in quick("monitor", detector, file, "--state", state).err


def test_a_state_keeps_its_settings_and_its_detector(
    quick: Any, detector: Path, drifting: Rows, tmp_path: Path
) -> None:
    file, state = write(tmp_path / "rows.csv", drifting[:100]), tmp_path / "state.json"
    run = ("monitor", detector, file, "--state", state)
    assert quick(*run, "--alpha", "0.05", "--window", "20").code == 0
    assert quick(*run, "--alpha", "0.05").code == 0
    assert "begun with --alpha 0.05, not 0.01" in quick(*run, "--alpha", "0.01").failed()
    assert "begun with --window 20, not 30" in quick(*run, "--window", "30").failed()
    other = negrefine.load_detector(detector)
    scores = np.random.default_rng(9).normal(size=300)
    other.calibrate_scores(scores, 0.05).save(tmp_path / "other")
    sentence = quick("monitor", tmp_path / "other", file, "--state", state).failed()
    assert "is of another detector or calibration" in sentence
    state.write_text("mine")
    assert "cannot be read" in quick(*run).failed()
    assert state.read_text() == "mine"


def test_what_is_no_result_of_this_detector_is_told(
    quick: Any, detector: Path, drifting: Rows, tmp_path: Path
) -> None:
    def told(change: dict[str, Any], suffix: str = ".jsonl") -> str:
        rows = [*drifting[:5], drifting[5] | change]
        return str(quick("monitor", detector, write(tmp_path / f"bad{suffix}", rows)).failed())

    assert "row 6: no image has the p-value 0.1234" in told({"p_value": 0.1234})
    assert "row 6: no image has the p-value 0.1234" in told({"p_value": 0.1234}, ".parquet")
    assert "row 6: 'bat' is no class name" in told({"nearest_class": "bat"}, ".csv")
    other = "ID" if drifting[5]["verdict"] == "OOD" else "OOD"
    assert "judged with another threshold" in told({"verdict": other})
    assert "after row 5: its verdict is 'odd'" in told({"verdict": "odd"})
    assert "after row 5: its verdict is None" in told({"verdict": None})
    assert "neither a p_value nor an error" in told({"p_value": None}, ".csv")
    bad = tmp_path / "bad.jsonl"
    for text, sentence in [
        ('{"path": 1}\n', "its path is 1, not a text"),
        ('{"p_value": true, "verdict": "ID"}\n', "its p_value is True, not a number"),
        ("[]\n", "a row is [], not an object"),
        ("no rows\n", "cannot be read as results after row 0"),
        ("[" * 70 + "]" * 70 + "\n", "nested more than 64 levels deep"),
        (" " * (1 << 21) + "\n", "a line is longer than 1 MiB"),
    ]:
        bad.write_text(text)
        assert sentence in quick("monitor", detector, bad).failed()
    (tmp_path / "bad.csv").write_text("path,score\na.png,1\n")
    assert "no column p_value" in quick("monitor", detector, tmp_path / "bad.csv").failed()
    head = "path,p_value,verdict,nearest_class\n"
    for table, sentence in [
        (head.replace(",", ";"), "its columns are not separated by commas"),
        (f"{head}a.png,much,ID,cat\n", "after row 0: its p_value is 'much', not a number"),
        # A comma that nobody has quoted shifts all cells after it.
        (f"{head}a.png,0.5,ID,cat\na,b.png,0.5,ID,cat\n", "more or fewer cells"),
        (f"{head}a.png,0.5,ID\n", "more or fewer cells"),
    ]:
        (tmp_path / "bad.csv").write_text(table)
        assert sentence in quick("monitor", detector, tmp_path / "bad.csv").failed()
    (tmp_path / "bad.parquet").write_text("no table")
    assert "no Parquet table" in quick("monitor", detector, tmp_path / "bad.parquet").failed()
    assert "no file of results" in quick("monitor", detector, tmp_path / "a.txt").failed()
    assert "No such file" in quick("monitor", detector, tmp_path / "a.csv").failed()
    assert "once only" in quick("monitor", detector, "-", "-").failed()
    assert "holds no saved detector" in quick("monitor", tmp_path, bad).failed()


def test_printed_results_are_read_too(
    quick: Any, detector: Path, drifting: Rows, tmp_path: Path
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, SCHEMA, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "path": 'a "b",\nc'} for row in drifting[:60])
    (tmp_path / "rows.csv").write_text(text.getvalue())
    done = quick("monitor", detector, tmp_path / "rows.csv", "--json")
    assert (done.code, done.err) == (0, "")
    assert objects(done.out)[0]["n_images"] == 59


def test_no_encoder_and_no_torch_are_needed(detector: Path, drifting: Rows, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", drifting[:500])
    ((_, code, imported),) = imports(["monitor", detector, file])
    assert code == 0
    assert not {"torch", "transformers", "sklearn", "pyarrow"} & set(imported)


def test_a_detector_without_calibration_is_told(quick: Any, tmp_path: Path) -> None:
    plain = negrefine.MCM(negrefine.load_encoder("builtin")).fit(NAMES)
    plain.save(tmp_path / "plain")
    sentence = quick("monitor", tmp_path / "plain", tmp_path / "rows.csv").failed()
    assert "'negrefine calibrate'" in sentence
