"""`negrefine score` with a page to look at, and with images sorted into folders."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.workspace import Workspace
from negrefine import load_detector
from negrefine.evaluation.image_scores import score_files

pytest.importorskip("jinja2")


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def test_page_and_folders_beside_the_table(quick: Any, work: Workspace, tmp_path: Path) -> None:
    plain = quick("score", work.detector, work.pictures)
    page, folder = tmp_path / "new" / "page.html", tmp_path / "sorted"
    views = ("--report", page, "--sort-into", folder, "--sort-by", "copy")
    done = quick("score", work.detector, work.pictures, *views)
    assert done.code == 0, done.err
    assert done.out == plain.out
    assert done.err.startswith(plain.err.rstrip("\n")) or plain.err in done.err
    rows = list(csv.DictReader(done.out.splitlines()))
    text = page.read_text(encoding="utf-8")
    assert text.count('src="data:image/') == len(work.good)
    assert text.count('<p class="state broken">Unreadable</p>') == len(work.broken)
    flagged = sum(row["verdict"] == "OOD" for row in rows)
    assert f"{flagged} of {len(work.good)} images flagged" in text
    assert f"<bdi>{work.detector}</bdi>" in text
    assert f"Wrote the page {page}.\n" in done.err
    inside = {row["nearest_class"] for row in rows if row["verdict"] == "ID"}
    n_inside = len(work.good) - flagged
    folders = f"{len(inside)} class folder{'' if len(inside) == 1 else 's'}"
    assert (
        f"Sorted 13 images into {folder}: {n_inside} in {folders}, {flagged} in none, 5" in done.err
    )
    wanted = [".negrefine-sorted", "sorted.csv"]
    for row in rows:
        where = "unreadable" if row["error"] else row["nearest_class"]
        where = "none" if row["verdict"] == "OOD" else where
        wanted.append(f"{where}/{Path(row['path']).name}")
    assert files(folder) == sorted(wanted)

    # Again, to a table this time, with fewer images on the page.
    out = tmp_path / "scores.csv"
    views = ("--report", page, "--report-images", 7, "--sort-into", folder, "--out", out)
    done = quick("score", work.detector, work.pictures, *views)
    assert (done.code, done.out) == (0, ""), done.err
    said = f"negrefine: warning: The page '{page}' shows 7 of 13 images; left out: "
    assert said in done.err
    assert page.read_text(encoding="utf-8").count("<li data-state=") == 7
    assert files(folder) == sorted(wanted)
    assert (folder / wanted[2]).is_symlink()
    assert files(tmp_path) == sorted(
        [*(f"sorted/{name}" for name in wanted), "new/page.html", "scores.csv"]
    )


def test_rows_of_an_interrupted_run_have_pictures(
    quick: Any, work: Workspace, tmp_path: Path
) -> None:
    out, page = tmp_path / "scores.csv", tmp_path / "page.html"
    journal = tmp_path / "scores.csv.partial"
    paths = [work.pictures / name for name in work.good]
    score_files(load_detector(work.detector, device="cpu"), paths, journal=journal)
    header, *lines = journal.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for entry in rows:
        entry["row"]["similarity"] = 0.987
    journal.write_text("\n".join([header, *map(json.dumps, rows)]) + "\n", encoding="utf-8")
    done = quick("score", work.detector, *paths, "--out", out, "--report", page)
    assert done.code == 0, done.err
    text = page.read_text(encoding="utf-8")
    assert text.count('<span class="value">0.987</span>') == len(paths)
    assert text.count('src="data:image/') == len(paths)
    assert files(tmp_path) == ["page.html", "scores.csv"]


def test_nothing_could_be_read(quick: Any, work: Workspace, tmp_path: Path) -> None:
    page, folder = tmp_path / "page.html", tmp_path / "sorted"
    broken = [work.pictures / name for name in work.broken]
    done = quick("score", work.detector, *broken, "--report", page, "--sort-into", folder)
    assert done.code == 1
    assert "negrefine: error: No image could be read" in done.err
    assert "5 images could not be read." in page.read_text(encoding="utf-8")
    assert len(files(folder)) == 2 + 5


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_wrong_arguments(quick: Any, work: Workspace, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "inside").mkdir(parents=True)
    for name in ("1.png", "2.png"):
        (images / name).write_bytes((work.pictures / name).read_bytes())
    (tmp_path / "link").symlink_to(images)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "page.html").write_text("mine")
    before = files(tmp_path)
    looked_for = "so what is put there would be scored the next time: name a folder elsewhere."
    for arguments, said in (
        (["images", "--report", "mine/page.html"], "exists and is not what negrefine writes"),
        (["images", "--report", "scores.csv"], "is HTML: end its name in .html."),
        (["images", "--report", "images/1.png/a.html"], "The results cannot be written to"),
        (["images", "--report-images", "5"], "--report-images has no effect without --report"),
        (["images", "--sort-by", "copy"], "--sort-by has no effect without --sort-into"),
        (["images", "--sort-into", "mine"], "'mine' holds other files, such as 'page.html'"),
        (["images", "--sort-into", "images"], looked_for),
        (["images", "--sort-into", "images/inside/new"], looked_for),
        (["images", "--sort-into", "link/new"], looked_for),
        (["link", "--sort-into", "images/new"], looked_for),
        ([".", "--sort-into", "new"], looked_for),
        (["**/*.png", "--sort-into", "new"], looked_for),
        (["*/*.png", "--sort-into", "new"], looked_for),
        (["imag*", "--sort-into", "images/new"], looked_for),
        (["images", "--sort-into", "new", "--out", "new/sorted.csv"], "is needed by --sort-into"),
        (["images", "--sort-into", "new.csv", "--out", "new.csv"], "is needed by --sort-into"),
        (
            ["images", "--sort-into", "new", "--out", "new/none/a.csv"],
            "'new/none/a.csv' lies in a ",
        ),
        (["images", "--sort-into", "new", "--report", "new/x/y/a.html"], "lies in a folder of --s"),
        (["images", "--sort-into", "mine", "--out", "made/a.csv"], "'mine' holds other files"),
        (["images", "--sort-into", "images", "--report", "made/a.html"], looked_for),
    ):
        done = quick("score", work.detector, *arguments, cwd=tmp_path)
        assert said in done.failed(), arguments
    done = quick("score", work.plain, "images", "--sort-into", "new", cwd=tmp_path)
    assert done.failed() == (
        "--sort-into needs verdicts, and the detector has no threshold: 'negrefine calibrate' "
        "sets one."
    )
    done = quick("score", work.detector, "images", "--sort-by", "move", cwd=tmp_path)
    assert done.code == 2
    assert files(tmp_path) == before
    # Patterns that find nothing in the folder, and results inside it.
    views = ("--sort-into", "new", "--out", "new/scores.csv", "--report", "new/a.html")
    for _ in range(2):
        done = quick("score", work.detector, "images/*.png", *views, cwd=tmp_path)
        assert done.code == 0, done.err
    done = quick("score", work.detector, "new/*/1.png", "--sort-into", "new", cwd=tmp_path)
    assert looked_for in done.failed()
    placed = next(p for p in (tmp_path / "new").rglob("1.png"))
    done = quick("score", work.detector, placed, "--sort-into", "new", cwd=tmp_path)
    assert f"'{placed}' lies in 'new', where sorting replaces files" in done.failed()
    assert placed.samefile(images / "1.png")
