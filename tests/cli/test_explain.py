"""`negrefine explain` in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.workspace import Workspace


def test_explain(quick: Any, work: Workspace) -> None:
    images = [work.pictures / name for name in work.good[:2]]
    done = quick("explain", work.detector, *images, "--top", 3)
    assert done.code == 0, done.err
    assert done.err == ""
    first, second, rest = done.out.split("\n\n")
    assert rest == ""
    assert first.startswith(f"{images[0]}\n  Closest to '")
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


def test_bad_images_of_a_folder_have_their_error_and_the_others_their_explanation(
    quick: Any, work: Workspace, tmp_path: Path
) -> None:
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "b.png").write_bytes((work.pictures / work.good[0]).read_bytes())
    done = quick("explain", work.detector, tmp_path)
    assert done.code == 0
    bad, good, worse, rest = done.out.split("\n\n")
    assert rest == ""
    for section, name in ((bad, "a.png"), (worse, "c.png")):
        assert section.startswith(f"{tmp_path / name}\n  {tmp_path / name}: is not an image")
    assert "winning pair" in good
    assert "2 of 3 images could not be read" in done.err
    rows = [
        json.loads(line)
        for line in quick("explain", work.detector, tmp_path, "--json").out.splitlines()
    ]
    assert [sorted(row)[:2] == ["error", "path"] for row in rows] == [True, False, True]
