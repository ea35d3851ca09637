"""A disk that is full: one sentence that names the file, and nothing half written."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from commands import NEGREFINE
from full_disk import largest_file
from negrefine import MCM
from negrefine.benchmarks.bundled import demo_class_names
from negrefine.errors import InputError
from negrefine.evaluation.image_scores import score_files
from negrefine.evaluation.store import SetStore
from negrefine.files.writing import write_rows, write_text


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet", "text.md"])
def test_results_name_their_file_and_keep_the_old_one(name: str, tmp_path: Path) -> None:
    def write(n: int) -> None:
        rows = [{"word": f"word {i * 7919 % 10007}"} for i in range(n)]
        if name == "text.md":
            write_text(tmp_path / name, str(rows))
        else:
            write_rows(tmp_path / name, rows, {"word": "string"})

    write(2)
    before = (tmp_path / name).read_bytes()
    with largest_file(4000), pytest.raises(InputError, match=rf"cannot be written to .*{name}': "):
        write(5000)
    assert (tmp_path / name).read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_journal_names_itself_and_keeps_its_rows(
    own_encoder: Any, folders: Path, tmp_path: Path
) -> None:
    detector = MCM(own_encoder).fit(demo_class_names())
    files = sorted((folders / "animals").rglob("*.png"))
    journal = tmp_path / "rows.csv.partial"
    with (
        largest_file(1500),
        pytest.raises(InputError, match=r"cannot be written to .*rows\.csv\.partial': "),
    ):
        score_files(detector, files, journal=journal, batch_size=2)
    n_kept = journal.read_bytes().count(b"\n") - 1
    assert 2 <= n_kept < 16
    rows = score_files(detector, files, journal=journal)
    assert [row.score for row in rows] == pytest.approx(
        [row.score for row in score_files(detector, files)]
    )


def test_an_evaluation_names_what_it_writes(
    own_encoder: Any, folders: Path, tmp_path: Path
) -> None:
    store = SetStore(tmp_path, "00-ID", "animals", progress=False)
    files = sorted((folders / "animals").rglob("*.png"))
    with (
        largest_file(300),
        pytest.raises(InputError, match=r"cannot be written to .*features/00-ID/00000\.safeten"),
    ):
        store.encode(own_encoder, files, [], 64)
    assert [len(block.features) for block in store.encode(own_encoder, files, [], 64)] == [16]


def test_standard_output_is_named() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*NEGREFINE, "judge-cache", "stats"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "negrefine: error: standard output or a temporary file: No space left on device.\n"
    )
