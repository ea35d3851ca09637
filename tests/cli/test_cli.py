"""The command line as its users meet it: real processes, real files, real signals."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from commands import NEGREFINE, Commands, Done, run
from conftest import CLASS_NAMES
from negrefine import load_detector
from negrefine.encoders import CLIPEncoder
from negrefine.evaluation.results import load_evaluation


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not hasattr(os, "fork"):
        yield run
        return
    commands = Commands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


# ------------------------------------------------------------------------------------- files


def png_header(width: int, height: int) -> bytes:
    """A 1-bit PNG that says width x height and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def make_broken_images(folder: Path) -> dict[str, str]:
    """Return {file name: word in the error}."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:1500])
    (folder / "text.png").write_text("this is no picture\n" * 30)
    (folder / "empty.png").write_bytes(b"")
    (folder / "huge.png").write_bytes(png_header(30_000, 30_000))
    Image.new("L", (1, 50_000)).save(folder / "thread.png")
    return {
        "truncated.jpg": "cut short",
        "text.png": "not an image",
        "empty.png": "empty",
        "huge.png": "limit",
        "thread.png": "elongated",
    }


@dataclass(frozen=True)
class Workspace:
    """A folder as a user has it."""

    root: Path
    classes: Path
    lexicon: Path
    pictures: Path
    good: list[str]
    broken: dict[str, str]
    detector: Path
    plain: Path


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory, lexicon_file: Path, demo_pictures: list[Path]
) -> Workspace:
    """Class names, pictures with broken ones among them, and two detectors made by `fit`."""
    root = tmp_path_factory.mktemp("work")
    classes = root / "classes.txt"
    classes.write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")
    pictures = root / "pictures"
    pictures.mkdir()
    good = []
    for i, path in enumerate(demo_pictures[:8]):
        name = f"{'grün 🦊' if i == 0 else i}.png"
        (pictures / name).write_bytes(path.read_bytes())
        good.append(name)
    log = root / "answers.txt"
    lines = [
        "Paris | proper noun ",
        "Einstein | proper noun ",
        "oak | dog | ",
        "poodle | dog | subcategory ",
    ]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    calibration = root / "calibration"
    calibration.mkdir()
    for path in demo_pictures[:6]:
        (calibration / path.name).write_bytes(path.read_bytes())
    common = ["--classes", classes, "--encoder", "builtin", "--lexicon", lexicon_file]
    mining = ["--lexicon-files", "full", "--top-fraction", "1", "--n-groups", "4"]
    done = run(
        *("fit", "--out", root / "deep" / "detector", *common, *mining),
        *("--judge", f"replay:{log}", "--calibrate", calibration, "--fpr", "0.2"),
    )
    assert done.code == 0, done.err
    assert done.err == ""
    assert done.out.startswith("Saved negrefine to ")
    assert "from 6 images, false-alarm rate <= 0.2" in done.out
    done = run("fit", "--out", root / "plain", *common[:4], "--method", "mcm")
    assert done == Done(0, f"Saved mcm to {root / 'plain'}: 7 class names.\n", "")
    broken = make_broken_images(pictures)
    return Workspace(
        root,
        classes,
        lexicon_file,
        pictures,
        good,
        broken,
        root / "deep" / "detector",
        root / "plain",
    )


# -------------------------------------------------------------------------------------- help


def test_help_and_version(quick: Any) -> None:
    done = run("--help")
    assert done.code == 0
    commands = ["fit", "calibrate", "score", "explain", "labels", "demo"]
    for command in commands:
        assert f"\n  {command} " in done.out
        page = quick(command, "--help")
        assert page.code == 0
        assert page.err == ""
        assert f"negrefine {command} " in page.out
    assert run("--version").out.startswith("negrefine 0.")


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['negrefine', '--help']; import negrefine.cli as c\n"
    code += "try: c.main()\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["fit"],
        ["fit", "--classes", "c.txt", "--out", "d"],
        ["fit", "--classes", "c", "--out", "d", "--encoder", "builtin", "--method", "magic"],
        ["fit", "--classes", "c", "--out", "d", "--encoder", "builtin", "--k", "many"],
        ["fit", "--classes", "c", "--out", "d", "--encoder", "builtin", "--min-frequency", "-1"],
        ["score", "detector"],
        ["score", "detector", "images", "--batch-size", "0"],
        ["explain", "detector", "image", "--top", "0"],
        ["labels", "detector", "--show", "some"],
    ],
)
def test_wrong_usage(quick: Any, arguments: list[str]) -> None:
    done = quick(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


# ------------------------------------------------------------------------------------- score


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
        (line,) = rest
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
    columns = ["path", "score", "neglabel", "multi_match", "p_value", "verdict", "error"]
    assert list(rows[0]) == columns
    check_rows(rows, work, builtin_encoder)


def test_no_threshold_no_verdict(quick: Any, work: Workspace) -> None:
    done = quick("score", work.plain, work.pictures / "1.png", work.pictures / "2.png")
    assert done.code == 0
    assert done.err == ""
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert list(rows[0]) == ["path", "score", "mcm", "verdict", "error"]
    assert [row["verdict"] for row in rows] == ["", ""]
    assert all(row["score"] == row["mcm"] for row in rows)


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


# --------------------------------------------------------------------------- explain, labels


def test_explain(quick: Any, work: Workspace) -> None:
    images = [work.pictures / name for name in work.good[:2]]
    done = quick("explain", work.detector, *images, "--top", 3)
    assert done.code == 0, done.err
    assert done.err == ""
    first, second, rest = done.out.split("\n\n")
    assert rest == ""
    assert first.startswith(f"{images[0]}\n  score ")
    for word in ("neglabel ", "multi_match ", "verdict ", "class names ", "winning pair "):
        assert word in second
    done = quick("explain", work.detector, *images, "--json", "--top", 3)
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in images]
    assert all(len(row["classes"]) == len(row["negatives"]) == 3 for row in rows)
    assert rows[0]["pair"]["text"] in first
    plain = quick("explain", work.plain, images[0])
    assert "verdict none" in plain.out
    assert "winning pair" not in plain.out
    broken = quick("explain", work.plain, work.pictures / "empty.png")
    assert "the file is empty" in broken.failed()


def test_labels(quick: Any, work: Workspace) -> None:
    tables = {}
    for show in ("all", "kept", "removed"):
        done = quick("labels", work.detector, "--show", show)
        assert done.code == 0, done.err
        tables[show] = list(csv.DictReader(io.StringIO(done.out), delimiter="\t"))
        kept, removed = done.err.split(" kept, ")
        assert removed.startswith(f"{len(tables['all']) - int(kept)} removed (")
    assert {row["status"] for row in tables["kept"]} == {"kept"}
    removed_words = {row["text"]: row["reason"] for row in tables["removed"]}
    assert set(removed_words) == {"Paris", "Einstein", "poodle"}
    assert removed_words["poodle"] == "subcategory of 'dog': recorded"
    assert len(tables["all"]) == len(tables["kept"]) + 3
    assert list(tables["all"][0]) == ["status", "text", "pos", "lexname", "similarity", "reason"]
    assert "has no negative labels" in quick("labels", work.plain).failed()


def test_output_that_the_terminal_cannot_show(work: Workspace) -> None:
    picture = work.pictures / work.good[0]
    done = run("score", work.plain, picture, PYTHONIOENCODING="ascii")
    assert done.code == 0, done.err
    assert r"gr\xfcn \U0001f98a.png" in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_leaves(work: Workspace, reader: str) -> None:
    command = f"{sys.executable} -m negrefine score '{work.plain}' '{work.pictures}' | {reader}"
    done = subprocess.run(  # noqa: S602 - a pipe as a user types it
        command,
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "BrokenPipe" not in done.stderr


# ------------------------------------------------------------------------------------ errors


def test_class_lists(quick: Any, work: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"

    def fit() -> Done:
        fitted: Done = quick(
            *("fit", "--classes", file, "--out", tmp_path / "d"),
            *("--encoder", "builtin", "--method", "mcm"),
        )
        return fitted

    assert "does not exist: give a text file" in fit().failed()
    file.mkdir()
    assert "cannot be read: Is a directory" in fit().failed()
    file.rmdir()
    for content in (b"", b"\n  \n\r\n", b"\xef\xbb\xbf"):
        file.write_bytes(content)
        assert "is empty: write one class name per line" in fit().failed()
    file.write_bytes("chaï\n".encode("latin-1"))
    assert "is not UTF-8 text: save it as UTF-8" in fit().failed()
    file.write_bytes("dog\n".encode("utf-16"))
    assert "is not UTF-8 text" in fit().failed()
    assert not (tmp_path / "d").exists()
    file.write_bytes("\ufeffdog\r\n\r\n  white cat \n\n漢字".encode())
    assert fit().code == 0
    manifest = json.loads((tmp_path / "d" / "detector.json").read_text(encoding="utf-8"))
    assert manifest["class_names"] == ["dog", "white cat", "漢字"]
    file.write_bytes(b"dog\ncat\ndog\n")
    done = fit()
    assert done.code == 0
    assert done.err.startswith("negrefine: warning: 1 class names occur more than once, 'dog' ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--encoder", "no/such/place"], "'no/such/place' is not a directory"),
        (["--encoder", "not a name!"], "is neither a directory nor a hub id"),
        (["--encoder", "builtin", "--device", "toaster"], "device 'toaster' cannot be used"),
        (["--encoder", "builtin", "--dtype", "int3"], "dtype must be 'auto'"),
        (["--encoder", "builtin", "--resample", "magic"], "image preprocessing"),
        (
            ["--method", "mcm", "--alpha", "1"],
            "--alpha has no effect on the method 'mcm': leave it out.",
        ),
        (
            ["--method", "mcm", "--lexicon", "LEXICON"],
            "--lexicon has no effect on the method 'mcm': leave it out.",
        ),
        (["--method", "csp", "--judge", "none"], "--judge has no effect on the method 'csp'"),
        (["--method", "neglabel", "--drop", "CLASSES"], "--drop has no effect on the method"),
        (["--method", "mcm", "--all-labels"], "--all-labels has no effect on the method 'mcm'"),
        (["--temperature", "1"], "--temperature has no effect on the method 'negrefine'"),
        (["--method", "mcm", "--temperature", "0"], "temperature must be positive"),
        (["--judge", "oracle"], "--judge must be 'wordnet', 'none', 'hf:MODEL'"),
        (["--judge", "replay:nowhere.txt"], "The log 'nowhere.txt' does not exist"),
        (["--judge", "replay:CLASSES"], "Line 1 of the log"),
        (["--lexicon", "nowhere.tsv"], "The lexicon 'nowhere.tsv' does not exist"),
        (["--lexicon", "CLASSES"], "has no column 'word'"),
        (["--lexicon", "LEXICON", "--min-frequency", "1"], "--min-frequency works on WordNet only"),
        (["--min-frequency", "100000000"], "No WordNet word reaches"),
        (["--lexicon", "LEXICON", "--lexicon-files", "noun.none"], "has no file 'noun.none'"),
        (["--lexicon", "LEXICON", "--lexicon-files", "all"], "Unknown lexicon preset 'all'"),
        (["--lexicon", "LEXICON", "--n-groups", "0"], "n_groups must be"),
        (["--lexicon", "LEXICON", "--quantile", "2"], "quantile must lie in"),
        (["--lexicon", "LEXICON", "--top-fraction", "-1"], "top_fraction must lie in"),
        (["--lexicon", "LEXICON", "--k", "0"], "k must be"),
        (["--lexicon", "LEXICON", "--seed", "-3"], "seed must be"),
        (["--fpr", "1"], "--fpr must lie strictly between 0 and 1"),
        (["--calibrate", "nowhere"], "nowhere: there is no such file or folder"),
        (["--calibrate", "EMPTY"], "the folder holds no image"),
        (["--method", "mcm", "--calibrate", "BROKEN"], "needs at least 19"),
        (["--out", "CLASSES"], "exists and is not a saved detector"),
        (["--out", "PICTURES"], "exists and is not a saved detector"),
        (["--out", "CLASSES/below/it"], "cannot be written to"),
    ],
)
def test_fit_says_what_is_wrong(
    quick: Any, work: Workspace, tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "nothing").mkdir()
    places = {
        "LEXICON": work.lexicon,
        "CLASSES": work.classes,
        "EMPTY": tmp_path / "nothing",
        "BROKEN": work.pictures / "empty.png",
        "PICTURES": work.pictures,
    }
    given = []
    for option in options:
        for name, path in places.items():
            if name in option:
                option = option.replace(name, str(path))  # noqa: PLW2901
        given.append(option)
    standard = ["--classes", work.classes, "--out", tmp_path / "d", "--encoder", "builtin"]
    sentence = quick("fit", *standard, *given, cwd=tmp_path).failed()
    assert said in sentence
    assert not (tmp_path / "d").exists()
    # Nothing was left behind anywhere.
    assert sorted(file.name for file in tmp_path.iterdir()) == ["nothing"]


def test_lexicographer_files_one_by_one(quick: Any, work: Workspace, tmp_path: Path) -> None:
    for files, expected in (
        ("noun.plant", {"noun.plant"}),
        ("noun.plant, adj.all,", {"noun.plant", "adj.all"}),
    ):
        done = quick(
            *("fit", "--classes", work.classes, "--out", tmp_path / "d", "--encoder", "builtin"),
            *("--method", "csp", "--lexicon", work.lexicon, "--lexicon-files", files),
            *("--top-fraction", "1", "--n-groups", "2"),
        )
        assert done.code == 0, done.err
        rows = csv.DictReader(io.StringIO(quick("labels", tmp_path / "d").out), delimiter="\t")
        assert {row["lexname"] for row in rows} == expected


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
    ):
        assert said in quick("score", *arguments, cwd=tmp_path).failed()
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        (tmp_path / "empty").chmod(0o500)
        said = "The results cannot be written to"
        out = tmp_path / "empty" / "s.csv"
        assert said in quick("score", work.plain, image, "--out", out).failed()


# ------------------------------------------------------------------------------------ resume


N_MANY = 3000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thousands of small pictures and a broken one."""
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
    assert scores.pop("00000.png") == "123"
    assert scores.pop("broken.png") == ""
    for name, score in scores.items():
        assert float(score) == pytest.approx(float(expected[name]), abs=1e-6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scores.csv", "whole.csv"]

    # The journal of another detector, one of changed files and a foreign file are of no use.
    header, *rows = lines
    other = json.dumps({"detector": "0" * 64, "encoder": "0" * 64})
    changed = [row.replace(many.name, f"{many.name}-other") for row in rows]
    for content in ("\n".join([other, *rows]), "\n".join([header, *changed]), "\x00\nmine\n"):
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
    identity = {"detector": detector.identity(), "encoder": detector.encoder.fingerprint}
    entries = [json.dumps(identity)]
    for name, row in before.items():
        status = (images / name).stat()
        stamp = f"{images / name}|{status.st_size}|{status.st_mtime_ns}"
        parts = {"mcm": row["mcm"]} if row["error"] is None else {}
        entry = {"path": row["path"], "score": row["score"], "parts": parts}
        entry |= {"verdict": row["verdict"], "error": row["error"]}
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


# -------------------------------------------------------------------------------------- demo


def test_demo_says_what_is_wrong_before_it_works(quick: Any, work: Workspace) -> None:
    assert "cannot be written to" in quick("demo", "--out", work.classes).failed()


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    done = run("demo", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.out
    methods = [
        "MCM",
        "no filter, no S_MM",
        "no filter + S_MM",
        "NegFilter, no S_MM",
        "NegFilter + S_MM",
    ]
    for method in methods:
        assert method in done.out
    assert "no evidence for or against any method" in done.out
    results = tmp_path / "demo-results"
    rows = json.loads((results / "results.json").read_text(encoding="utf-8"))["results"]
    methods[0] = "mcm"
    assert list(dict.fromkeys(row["method"] for row in rows)) == methods
    sets = ["food", "vehicles", "objects", "plants", "mean"]
    assert [row["ood_set"] for row in rows[:5]] == sets
    for row in rows:
        assert 0.5 < row["auroc"]["value"] <= 1
        assert 0 <= row["fpr95"]["value"] <= 1
    with (results / "results.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [float(row["auroc"]) for row in table] == pytest.approx(
        [row["auroc"]["value"] for row in rows]
    )
    evaluation = load_evaluation(results)
    assert [scores.name for scores in evaluation.sets] == ["ID", *sets[:4]]
    assert all(
        np.isfinite(scores.scores[method][0]).all()
        for scores in evaluation.sets
        for method in methods
    )
    content = json.loads((results / "examples.json").read_text(encoding="utf-8"))
    assert "no evidence for or against any method" in content["caveat"]
    assert len(content["examples"]) >= 5
    assert load_detector(results / "detector").offset_ is not None
