"""Images sorted into folders: what is placed, what is replaced, and what is never touched."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from negrefine.errors import InputError
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.evaluation.sorted_images import By, claim_directory, folder_names, sort_images
from negrefine.evaluation.sorted_mark import MARK
from negrefine.files.lock import lock_directory
from negrefine.shown_text import restored, storable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")

CLASSES = ["cat", "dog", "Dog"]


def inside(path: Path, name: str = "cat") -> ScoredImage:
    return ScoredImage(storable(str(path)), 1.0, verdict="ID", nearest_class=name)


def flagged(path: Path) -> ScoredImage:
    return ScoredImage(storable(str(path)), 0.0, verdict="OOD", nearest_class="cat")


def unreadable(path: Path) -> ScoredImage:
    return ScoredImage(storable(str(path)), None, error="broken")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Five files, two of one name."""
    places = ["one/a.png", "two/a.png", "one/b.png", "one/c.png", "one/d.png"]
    paths = [tmp_path / "images" / place for place in places]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"picture {path.parent.name}/{path.name}")
        os.utime(path, ns=(10**18, 10**18 + 123456789))
    return paths


@pytest.fixture
def rows(images: list[Path]) -> list[ScoredImage]:
    a, other_a, b, c, d = images
    return [inside(a), inside(other_a), inside(b, "Dog"), flagged(c), unreadable(d)]


def tree(directory: Path) -> dict[str, str]:
    """Return the content of each file, through links, without the mark and the table."""
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in (MARK, "sorted.csv")
    }


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def table(directory: Path) -> list[dict[str, str]]:
    with (directory / "sorted.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


WANTED = {
    "cat/a.png": "picture one/a.png",
    "cat/a (2).png": "picture two/a.png",
    "Dog (2)/b.png": "picture one/b.png",
    "none/c.png": "picture one/c.png",
    "unreadable/d.png": "picture one/d.png",
}


@pytest.mark.parametrize("by", ["link", "copy"])
def test_each_image_has_its_place(
    rows: list[ScoredImage], images: list[Path], tmp_path: Path, by: By
) -> None:
    out = tmp_path / "new" / "sorted"
    report = sort_images(rows, out, CLASSES, by=by)
    assert tree(out) == WANTED
    assert report.counts == {"cat": 2, "Dog (2)": 1, "none": 1, "unreadable": 1}
    placed = [out / place for place in WANTED]
    assert all(path.is_symlink() == (by == "link") for path in placed)
    assert {path.stat().st_mtime_ns for path in placed} == {10**18 + 123456789}
    found = table(out)
    assert [row["source"] for row in found] == [str(path) for path in images]
    assert [row["place"] for row in found] == list(WANTED)
    assert [row["verdict"] for row in found] == ["ID", "ID", "ID", "OOD", ""]
    assert [row["class"] for row in found] == ["cat", "cat", "Dog", "cat", ""]
    # It may be moved, and the images are what they were.
    out.rename(tmp_path / "elsewhere")
    assert tree(tmp_path / "elsewhere") == WANTED
    assert [path.read_text() for path in images] == [
        *(WANTED["cat/a.png"], WANTED["cat/a (2).png"], WANTED["Dog (2)/b.png"]),
        *(WANTED["none/c.png"], WANTED["unreadable/d.png"]),
    ]


@pytest.mark.parametrize("by", ["link", "copy"])
def test_sorting_again_replaces_what_was_placed_and_nothing_else(
    rows: list[ScoredImage], images: list[Path], tmp_path: Path, by: By
) -> None:
    out = tmp_path / "sorted"
    sort_images(rows, out, CLASSES, by=by)
    # The user adds files, puts a picture in place of one, and keeps one under another name.
    (out / "none" / "notes.txt").write_text("mine")
    (out / "mine.txt").write_text("mine")
    (out / "none" / "c.png").unlink()
    (out / "none" / "c.png").write_text("mine too")
    (out / "cat" / "a.png").rename(out / "cat" / "favourite.png")
    with pytest.warns(UserWarning, match=r"^1 of the files that were placed in .* have changed"):
        report = sort_images([flagged(images[3]), flagged(images[4])], out, CLASSES, by=by)
    assert report.n_kept == 1
    assert tree(out) == {
        "none/notes.txt": "mine",
        "mine.txt": "mine",
        "none/c.png": "mine too",
        "cat/favourite.png": "picture one/a.png",
        "none/c (2).png": "picture one/c.png",
        "none/d.png": "picture one/d.png",
    }
    assert names(out) == sorted([MARK, "cat", "mine.txt", "none", "sorted.csv"])
    # A folder that others have emptied goes, and so does nothing that was there before.
    (out / "cat" / "favourite.png").unlink()
    other: By = "link" if by == "copy" else "copy"
    assert sort_images([inside(images[0], "dog")], out, CLASSES, by=other).n_kept == 0
    assert names(out) == sorted([MARK, "dog", "mine.txt", "none", "sorted.csv"])
    assert names(out / "none") == ["c.png", "notes.txt"]


def test_a_folder_in_place_of_which_a_link_leads_to_the_images(
    images: list[Path], tmp_path: Path
) -> None:
    """The originals have the same names, sizes and times as the copies."""
    out = tmp_path / "sorted"
    sort_images([flagged(path) for path in images[2:]], out, CLASSES, by="copy")
    for path in (out / "none").iterdir():
        path.unlink()
    (out / "none").rmdir()
    (out / "none").symlink_to(images[2].parent)
    with pytest.raises(InputError, match=r"none' is no folder: move it away"):
        sort_images([flagged(images[2])], out, CLASSES, by="copy")
    sort_images([inside(images[2])], out, CLASSES, by="copy")
    assert all(path.exists() for path in images)
    assert (out / "none").is_symlink()


def test_a_mark_that_names_other_files(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "sorted"
    sort_images([inside(images[0])], out, CLASSES, by="copy")
    status = images[1].stat()
    place = f'"place": "%s", "size": {status.st_size}, "mtime": {status.st_mtime_ns}'
    strange = ("cat/../../images/two/a.png", "../images/two/a.png", str(images[1]), "a", "x/y\0z")
    with (out / MARK).open("a") as stream:
        stream.writelines("{%s}\n" % (place % name) for name in strange)
        stream.write('[1]\n{"place": 3}\n{"place": "none/')
    with pytest.warns(UserWarning, match=r"name nothing that was placed: 7;"):
        sort_images([inside(images[2])], out, CLASSES)
    assert all(path.exists() for path in images)
    assert tree(out) == {"cat/b.png": "picture one/b.png"}


def test_directories_that_are_refused(
    rows: list[ScoredImage], images: list[Path], tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.txt").write_text("mine")
    cases = [
        (mine, r"mine' holds other files, such as 'a\.txt': name a new or empty folder"),
        (mine / "a.txt", "The results cannot be written to .*: Not a directory"),
        (mine / "a.txt" / "x", "The results cannot be written to .*: Not a directory"),
    ]
    for directory, said in cases:
        with pytest.raises(InputError, match=said):
            sort_images(rows, directory, CLASSES)
    (mine / MARK).write_text("another mark")
    with pytest.raises(InputError, match="holds other files"):
        sort_images(rows, mine, CLASSES)
    assert names(mine) == [MARK, "a.txt"]
    out = tmp_path / "sorted"
    sort_images(rows, out, CLASSES)
    with pytest.raises(InputError, match=r"a\.png' lies in .*, where sorting replaces files"):
        sort_images([inside(out / "cat" / "a.png")], out, CLASSES)
    with (
        pytest.raises(InputError, match="Another process sorts images into"),
        lock_directory(out),
    ):
        # Neither marks the folder while the other one may be about to.
        claim_directory(out, "link")
    with (
        pytest.raises(InputError, match="Another process sorts images into"),
        lock_directory(out),
    ):
        sort_images(rows, out, CLASSES)
    assert tree(out) == WANTED
    (out / "sorted.csv").write_text("my,table\n")
    with pytest.raises(InputError, match=r"sorted\.csv' exists and is not a table"):
        sort_images(rows, out, CLASSES)
    undecided = ScoredImage(str(images[0]), 1.0, nearest_class="cat")
    with pytest.raises(InputError, match="has no threshold"):
        sort_images([undecided], tmp_path / "x", CLASSES)
    with pytest.raises(InputError, match="'owl', which is no class name"):
        sort_images([inside(images[0], "owl")], tmp_path / "x", CLASSES)
    with pytest.raises(InputError, match="'link' or 'copy', not by 'move'"):
        sort_images(rows, tmp_path / "x", CLASSES, by="move")  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_images_that_cannot_be_placed(images: list[Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    gone = tmp_path / "gone.png"
    rows = [unreadable(gone), unreadable(tmp_path / "pipe.png"), inside(images[0])]
    out = tmp_path / "sorted"
    with pytest.warns(UserWarning, match=r"^2 of 3 images could not be placed .*gone.png: No such"):
        report = sort_images(rows, out, CLASSES, by="copy")
    assert report.n_failed == 2
    assert [row["place"] for row in table(out)] == ["", "", "cat/a.png"]
    with pytest.warns(UserWarning, match=r"^1 of 3 images could not be placed"):
        sort_images(rows, out, CLASSES, by="link")
    assert [row["place"] for row in table(out)] == ["", "unreadable/pipe.png", "cat/a.png"]


HOSTILE = [
    *("none", "Unreadable", "sorted.csv", "a/b", "a\\b", "..", "../../x", ".", "", " "),
    *("x\x1b[2J\n", "cat.", "cat. ", "Cat", "cat", "CAT", "cat (2)", "con", "NUL.txt", "COM\xb9"),
    *("ä" * 300, "ä" * 300 + "!", "=1+1", "caf\xe9", "cafe\u0301", MARK, "-rf", "~", "a" * 130),
]


def test_classes_with_any_name(tmp_path: Path) -> None:
    folders = folder_names(HOSTILE)
    assert len({name.casefold() for name in folders.values()}) == len(HOSTILE)
    assert folders["none"] == "none (class)"
    assert folders["Unreadable"] == "Unreadable (class)"
    # Names that can stay as they are do, whatever comes before them.
    assert [folders[name] for name in ("Cat", "cat", "cat (2)", "-rf")] == [
        *("Cat", "cat (3)", "cat (2)", "-rf")
    ]
    source = tmp_path / "a.png"
    source.write_text("picture")
    out = tmp_path / "sorted"
    sort_images([inside(source, name) for name in HOSTILE], out, HOSTILE)
    assert names(out) == sorted([MARK, "sorted.csv", *folders.values()])
    assert names(tmp_path) == ["a.png", "sorted"]
    assert set(tree(out)) == {f"{name}/a.png" for name in folders.values()}


@pytest.mark.skipif(sys.platform != "linux", reason="no such file names here")
def test_files_with_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "im\x1b[1mages"
    folder.mkdir()
    given = [b"f\xff.png", b"f\\udcff.png", b"a\nb.png", b".png", b"con.png", b"A.png", b"a.png"]
    given += [b"a" * 250 + b".png", b"a" * 249 + b"b.png", "b\u202egnp.png".encode(), b"c:d|e.png"]
    files = [folder / os.fsdecode(name) for name in given]
    for file in files:
        file.write_bytes(os.fsencode(file.name))
    for by in ("copy", "link"):
        out = tmp_path / by
        sort_images([flagged(file) for file in files], out, CLASSES, by=by)
        places = [row["place"] for row in table(out)]
        assert len({place.casefold() for place in places}) == len(files)
        assert [(out / place).read_bytes() for place in places] == given
        assert [Path(restored(row["source"])) for row in table(out)] == files
        assert places[:3] == ["none/f_udcff.png", "none/f_udcff (2).png", "none/a_x0ab.png"]
        assert places[4:7] == ["none/con_.png", "none/A.png", "none/a (2).png"]


def test_links_of_relative_paths(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shortcut").symlink_to(images[0].parent, target_is_directory=True)
    monkeypatch.chdir(images[0].parent)
    paths = [Path("a.png"), Path("../two/a.png"), tmp_path / "shortcut" / ".." / "two" / "a.png"]
    sort_images([inside(path) for path in paths], Path("../../sorted"), CLASSES)
    monkeypatch.chdir(tmp_path)
    found = [Path("sorted", row["place"]) for row in table(Path("sorted"))]
    assert [path.read_text()[8:11] for path in found] == ["one", "two", "two"]
    assert [str(path.readlink()) for path in found[:2]] == [str(images[0]), str(images[1])]


KILLED = """
import sys
from pathlib import Path
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.evaluation.sorted_images import sort_images
folder, out = map(Path, sys.argv[1:])
rows = [ScoredImage(str(path), 1.0, verdict="ID", nearest_class="cat")
        for path in sorted(folder.iterdir())]
print("ready", flush=True)
while True:
    sort_images(rows, out, ["cat"], by="copy")
"""


def test_a_killed_run_is_completed(tmp_path: Path) -> None:
    """Killed at several moments, in copying and in removing what was copied before."""
    folder, out = tmp_path / "images", tmp_path / "sorted"
    folder.mkdir()
    for i in range(400):
        (folder / f"{i:04}.png").write_text(f"{i}" * 2000)
    paths = sorted(folder.iterdir())
    before = {path.name: path.read_text() for path in paths}
    unfinished = 0
    for delay in (0.03, 0.1):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, folder, out], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        unfinished += not (out / "sorted.csv").exists()
        mine = out / "mine.txt"
        if out.exists():
            mine.write_text("mine")
    assert unfinished
    sort_images([inside(path) for path in paths], out, ["cat"], by="copy")
    assert {path.name: path.read_text() for path in paths} == before
    assert tree(out) == {f"cat/{name}": text for name, text in before.items()} | {
        "mine.txt": "mine"
    }
    assert [row["place"] for row in table(out)] == [f"cat/{name}" for name in before]
    assert names(out) == sorted([MARK, "cat", "mine.txt", "sorted.csv"])
