"""Files of the user that no command may replace."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cli.workspace import Workspace

MINE = "path,score,verdict,error,my_label\na.png,1,ID,,cat\n"


def test_tables_that_negrefine_has_not_written_stay(
    quick: Any, work: Workspace, tmp_path: Path
) -> None:
    image = work.pictures / "1.png"
    mine = {"mine.csv": MINE, "notes.csv": "1;2\n", "rows.jsonl": '{"path": "a.png"}\n'}
    mine["list.jsonl"] = "[1]\n"
    for name, content in mine.items():
        (tmp_path / name).write_text(content)
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "table.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        done = quick("score", work.plain, image, "--out", path)
        assert "is not a table that negrefine has written" in done.failed()
        assert path.name in done.failed()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_own_tables_and_empty_files_are_replaced(
    quick: Any, work: Workspace, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"scores.{suffix}"
    out.write_bytes(b"")
    for saved in (work.plain, work.detector, work.plain):
        done = quick("score", saved, work.pictures / "1.png", "--out", out)
        assert done.code == 0, done.err
    if suffix == "csv":
        with out.open(encoding="utf-8", newline="") as stream:
            assert "mcm" in next(csv.DictReader(stream))


def test_a_journal_that_is_another_file_stays(quick: Any, work: Workspace, tmp_path: Path) -> None:
    journal = tmp_path / "scores.csv.partial"
    journal.write_text("my notes\n")
    out = tmp_path / "scores.csv"
    done = quick("score", work.detector, work.pictures / "1.png", "--out", out)
    assert "scores.csv.partial" in done.failed()
    assert journal.read_text() == "my notes\n"


def test_a_card_replaces_cards_only(quick: Any, work: Workspace, tmp_path: Path) -> None:
    card = tmp_path / "card.png"
    image = work.pictures / "1.png"
    for _ in range(2):
        assert quick("explain", work.plain, image, "--card", card).code == 0
    photo = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(photo)
    before = photo.read_bytes()
    done = quick("explain", work.plain, image, "--card", photo)
    assert "is not a card that negrefine has drawn" in done.failed()
    assert photo.read_bytes() == before
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(before[:16] + (60_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0")
    for damaged in (before[:20], bomb.read_bytes(), bomb.read_bytes() + bytes(4) + before[33:]):
        bomb.write_bytes(damaged)
        done = quick("explain", work.plain, image, "--card", bomb)
        assert "is not a card that negrefine has drawn" in done.failed()
        assert bomb.read_bytes() == damaged


def test_a_sweep_replaces_sweeps_only(quick: Any, work: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    out.write_text(MINE)
    done = quick(
        *("sweep", "--classes", work.classes, "--encoder", "builtin", "--id", work.pictures),
        *("--ood", f"x={work.pictures}", "--out", out),
    )
    assert "is not a table that negrefine has written" in done.failed()
    assert out.read_text() == MINE


def test_one_set_as_both(quick: Any, work: Workspace, demo_pictures: list[Path]) -> None:
    good = [work.pictures / name for name in work.good]
    ids = [part for path in good for part in ("--id", path)]
    done = quick("calibrate", work.plain, *ids, "--fpr", "0.2", "--ood", good[0])
    assert "1 of 1 images of the OOD set" in done.failed()


def test_photographs_and_the_built_in_encoder(
    quick: Any, work: Workspace, shared: Path, tmp_path: Path
) -> None:
    photos = sorted((shared / "photos").rglob("*.jpg"))
    if not photos:
        pytest.skip("needs photographs")
    done = quick("score", work.detector, photos[0])
    (line,) = done.err.splitlines()
    assert "knows emoji and icons" in line
    Image.open(photos[1]).save(tmp_path / "photo.png")
    assert "knows emoji and icons" in quick("explain", work.detector, tmp_path / "photo.png").err
