"""Names of files, classes and sets that a terminal, a reader or a spreadsheet would obey."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negrefine import load_detector
from negrefine.benchmarks.bundled import demo_images
from negrefine.evaluation.image_scores import score_files
from negrefine.evaluation.results import load_evaluation
from negrefine.shown_text import restored, table_cell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no such file names here")

# What no command may print: C0 but line breaks, DEL, C1, marks of direction, and no width.
OBEYED = re.compile(
    "[\0-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
NAMES = [
    b"a\x1b]0;owned\x07\x1b[2J.png",
    b"b\x9b31m\x08\x7f\r.png",
    "c\x9b31m\x85\u2028\u202egnp.png".encode(),
    b"d\nnegrefine: error: all is lost.png",
    b"e[bold red]x[link=http:x]y[nope].png",
    b"=cmd|' calc'!A0.png",
    b"@SUM(1).png",
    b"f\xff.png",
    b"f\\udcff.png",
    b"f\\\xff.png",
    "g\u200b\u2066\ufeff.png".encode(),
    b"<script>alert(1)<script>&amp;'\" onerror=x.png",
    b"$x^2$ `h` | % _ # { } \\.png",
]
BROKEN = b"z\x1b[31m\xfe\n.png"
CLASSES = [
    "cat",
    "d\x1b[31mog",
    "[/] [bold]horse",
    "=1+1",
    "-2",
    "ow\u202el\u200b",
    "fi|sh `a` $x$ 50%_{#}\\",
    "<img src=x onerror=alert(1)>",
    "wha\x9ble",
]


@dataclass(frozen=True)
class Hostile:
    root: Path
    pictures: Path
    classes: Path
    detector: Path

    @property
    def files(self) -> list[Path]:
        """The pictures that can be read, in the order of the results."""
        return sorted(self.pictures / os.fsdecode(name) for name in NAMES)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, quick: Any) -> Hostile:
    """Pictures and classes with such names, and a detector fitted on them."""
    root = tmp_path_factory.mktemp("hostile\x1b[1m")
    pictures = root / "pictures\x1b[7m"
    pictures.mkdir()
    for name, image in zip(NAMES, demo_images(), strict=False):
        shutil.copy(image.path, pictures / os.fsdecode(name))
    (pictures / os.fsdecode(BROKEN)).write_bytes(b"nothing")
    classes = root / "classes\x07.json"
    classes.write_text(json.dumps({"names": CLASSES}))
    detector = root / "detector\x1b[5m"
    done = quick("fit", "--classes", classes, "--encoder", "builtin", "--method", "mcm")
    assert done.code == 2
    checked(done, 2)
    done = quick(
        *("fit", "--classes", classes, "--encoder", "builtin", "--method", "mcm"),
        *("--out", detector, "--calibrate", pictures, "--fpr", "0.3"),
    )
    checked(done)
    return Hostile(root, pictures, classes, detector)


def checked(done: Any, code: int = 0) -> str:
    """Return what a command has printed, of which a terminal obeys nothing."""
    assert done.code == code, done
    text = done.out + done.err
    assert not OBEYED.search(text), ascii(OBEYED.search(text))
    assert "Traceback" not in text
    return str(text)


def test_fit_keeps_names_exactly(hostile: Hostile) -> None:
    assert load_detector(hostile.detector, device="cpu").class_names_ == CLASSES


def test_score(hostile: Hostile, quick: Any, tmp_path: Path) -> None:
    done = quick("score", hostile.detector, hostile.pictures)
    checked(done)
    printed = [row["path"] for row in csv.DictReader(done.out.splitlines())]
    assert len(set(printed)) == len(printed) == len(NAMES) + 1
    assert r"z\x1b[31m\udcfe\x0a.png" in printed[-1]
    for suffix in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"s\x1b\udcfe.{suffix}"
        checked(quick("score", hostile.detector, hostile.pictures, "--out", out))
    table = pa.BufferReader((tmp_path / "s\x1b\udcfe.parquet").read_bytes())
    rows = pq.read_table(table).to_pylist()
    lines = (tmp_path / "s\x1b\udcfe.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    *paths, broken = (Path(restored(row["path"])) for row in rows)
    assert paths == hostile.files
    assert os.fsencode(broken.name) == BROKEN
    assert {row["nearest_class"] for row in rows[:-1]} <= set(CLASSES)
    with (tmp_path / "s\x1b\udcfe.csv").open(encoding="utf-8", newline="") as stream:
        cells = list(csv.DictReader(stream))
    assert [cell["path"] for cell in cells] == [row["path"] for row in rows]
    assert [float(cell["score"]) for cell in cells[:-1]] == [row["score"] for row in rows[:-1]]
    assert [c["nearest_class"] for c in cells[:-1]] == [
        table_cell(row["nearest_class"]) for row in rows[:-1]
    ]


def test_cells_that_begin_like_formulas(hostile: Hostile, quick: Any, tmp_path: Path) -> None:
    here = hostile.pictures
    checked(quick("score", hostile.detector, "*.png", "--out", tmp_path / "s.csv", cwd=here))
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as stream:
        cells = [row["path"] for row in csv.DictReader(stream)]
    assert cells[2:4] == ["'=cmd|' calc'!A0.png", "'@SUM(1).png"]
    done = quick("score", hostile.detector, "*.png", cwd=here)
    assert "\n'=cmd|' calc'!A0.png,0" in checked(done)
    assert "\n'@SUM(1).png,0" in done.out


def test_an_interrupted_run_finds_the_files(hostile: Hostile, tmp_path: Path) -> None:
    detector = load_detector(hostile.detector, device="cpu")
    journal = tmp_path / "s.csv.partial"
    rows = score_files(detector, hostile.files, journal=journal)
    text = journal.read_text(encoding="utf-8")
    assert not OBEYED.search(text)
    journal.write_text(re.sub(r'"similarity": [\d.]+', '"similarity": 42.0', text))
    again = score_files(detector, hostile.files, journal=journal)
    assert again == [replace(row, similarity=42.0) for row in rows]


def test_explain(hostile: Hostile, quick: Any, tmp_path: Path) -> None:
    done = quick("explain", hostile.detector, hostile.pictures)
    lines = checked(done).splitlines()
    headings = [line for line in lines if line and not line.startswith((" ", "negrefine: warning"))]
    # The file that is no image has its heading, too.
    assert len(set(headings)) == len(headings) == len(NAMES) + 1
    assert r"z\x1b[31m\udcfe\x0a.png: is not an image" in done.err
    done = quick("explain", hostile.detector, hostile.pictures, "--json", "--top", "9")
    checked(done)
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [Path(restored(each["path"])) for each in found] == hostile.files
    assert {match["text"] for match in found[0]["classes"]} == set(CLASSES)
    files = [hostile.pictures / os.fsdecode(name) for name in NAMES[:4:3] + NAMES[7:9]]
    for i, file in enumerate(files):
        checked(quick("explain", hostile.detector, file, "--card", tmp_path / f"{i}\x1b.png"))
    assert len({card.read_bytes() for card in tmp_path.glob("*.png")}) == len(files)


def test_calibrate(hostile: Hostile, quick: Any, tmp_path: Path) -> None:
    saved = tmp_path / "d\x1b"
    shutil.copytree(hostile.detector, saved)
    other = tmp_path / os.fsdecode(b"odd\xff\x1b\x07")
    other.mkdir()
    shutil.copy(demo_images()[-1].path, other / os.fsdecode(b"\xfe.png"))
    arguments = ("calibrate", saved, "--id", hostile.pictures, "--fpr", "0.3", "--ood", other)
    assert "z\\x1b[31m\\udcfe\\x0a.png" in checked(quick(*arguments))
    done = quick(*arguments, "--json")
    checked(done)
    (folder,) = json.loads(done.out)["ood"]
    assert folder == str(other)


def test_errors(hostile: Hostile, quick: Any) -> None:
    missing = "no\x1b]0;owned\x07\x9b\u202e\nfile"
    shown = r"no\x1b]0;owned\x07\x9b\u202e\x0afile"
    for command in ("score", "explain"):
        done = quick(command, hostile.detector, missing)
        checked(done, 1)
        assert shown in done.failed()
        checked(quick(command, missing, hostile.pictures), 1)
    checked(quick("fit", "--classes", missing, "--encoder", "builtin", "--out", "o"), 1)
    checked(quick("fit", "--classes", hostile.classes, "--encoder", missing, "--out", "o"), 1)
    checked(quick("calibrate", hostile.detector, "--id", missing), 1)
    checked(quick("labels", missing), 1)
    checked(quick("labels", hostile.detector), 1)
    checked(quick("refine", missing), 1)
    checked(quick("sweep", "--classes", missing, "--id", missing, "--ood", missing), 2)
    checked(quick("benchmark", "run", missing, "--out", "o", "--encoder", "builtin"), 1)
    checked(quick("benchmark", "check", missing), 1)
    checked(quick("reproduce", "--out", "o", "--only", missing), 1)
    checked(quick("convert-clipn", missing, "--base", missing, "--out", missing), 1)
    checked(quick("judge-cache", "export", missing, "--answers", missing, "--judge", missing), 1)
    checked(quick("judge-cache", "import", missing), 1)
    checked(quick("demo", "--out", hostile.classes), 1)


def test_wrong_usage(quick: Any) -> None:
    text = "x\x1b[2J\x9b\u202e\udcff"
    for arguments in (
        (text,),
        (f"--{text}",),
        ("score", f"--{text}"),
        ("labels", "a", text),
        ("score", "a", "b", "--batch-size", text),
        ("labels", "a", "--show", text),
        ("fit", "--method", text, "--classes", "a", "--encoder", "b", "--out", "c"),
    ):
        assert " --help'." in checked(quick(*arguments), 2)


class Elements(HTMLParser):
    """Counts the elements of a page, and keeps its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_evaluate(hostile: Hostile, quick: Any, tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"o\xfe\x1b[1m")
    ood = tmp_path / os.fsdecode(b"food\xff")
    for group in (b"plain", b"\xfe", b"\\udcfe", b"<b>\x1b"):
        folder = ood / os.fsdecode(group)
        folder.mkdir(parents=True)
        shutil.copy(demo_images()[-1].path, folder / os.fsdecode(b"\xff.png"))
    (ood / os.fsdecode(b"broken\xff.png")).write_bytes(b"")
    name = "f|oo`d\x1b[31m<script>[x](http://evil.org)$\\$_%\u202e\n"
    arguments = (
        *("evaluate", "--id", hostile.pictures, "--ood", f"{name}={ood}", "--out", out),
        *("--classes", hostile.classes, "--encoder", "builtin", "--methods", "mcm,energy"),
        *("--bootstrap", "0", "--title", "see [/b] <script> \x1b[1m here\n"),
    )
    done = quick(*arguments)
    assert r"see [/b] <script> \x1b[1m here\x0a" in checked(done)
    first = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    checked(quick(*arguments))
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == first
    for path in out.iterdir():
        if path.is_file() and path.suffix != ".csv":
            assert not OBEYED.search(path.read_text(encoding="utf-8")), path
    evaluation = load_evaluation(out)
    assert evaluation.ood_sets[0].name == name
    assert evaluation.class_names == CLASSES
    assert len(set(evaluation.ood_sets[0].groups)) == 5
    assert {restored(group) for group in evaluation.ood_sets[0].groups} == {
        *("", "plain", "\udcfe", "\\udcfe", "<b>\x1b")
    }
    page = (out / "report.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert "script" not in elements.tags
    assert elements.handlers == []
    # Every picture is found by its name and shown.
    assert elements.tags.count("img") == len(NAMES) - 1 + 4
    assert "no picture" not in page
    markdown = (out / "results.md").read_text(encoding="utf-8")
    header = markdown.splitlines()[0]
    shown = r"f\|oo\`d\x1b\[31m&lt;script>\[x\](http\://evil.org)\$\\\$\_%\u202e\x0a"
    assert header == f"| method | {shown} | mean | mean AUROC | mean FPR95 |"
    latex = (out / "results.tex").read_text(encoding="utf-8")
    slash = r"\textbackslash{}"
    assert (
        rf"method & f\textbar{{}}oo`d{slash}x1b{{[}}31m"
        r"\textless{}script\textgreater{}{[}x{]}"
        rf"(http://evil.org)\${slash}\$\_\%{slash}u202e{slash}x0a & mean & "
        r"mean AUROC & mean FPR95 \\"
    ) in latex
