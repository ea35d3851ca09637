"""A folder of results in parts: what it says of itself, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from negrefine.errors import ImageError, InputError
from negrefine.evaluation.score_parts import MANIFEST, MOST_ATTEMPTS, ScoredBy, ScoreParts
from negrefine.evaluation.scored_image import ScoredImage, score_columns

BY = ScoredBy("d" * 64, "e" * 64, score_columns(["mcm"], p_value=True))
ROWS = [
    ScoredImage("a.png", 0.25, {"mcm": 0.25}, "OOD", p_value=0.01, nearest_class="dog"),
    ScoredImage("b.png", None, error="b.png: is empty."),
    ScoredImage("c.png", 0.75, {"mcm": 0.75}, "ID", p_value=0.5, nearest_class="cat"),
]


def started(root: Path, n_shards: int = 2) -> ScoreParts:
    parts = ScoreParts(root, BY)
    with parts.opened(n_shards):
        parts.write_manifest(n_shards, [])
    return parts


def test_a_part_holds_the_rows_and_says_what_it_is_of(tmp_path: Path) -> None:
    parts = ScoreParts(tmp_path / "new" / "scores", BY)
    with parts.opened(2):
        assert parts.finished(0) is None
        written = parts.write(0, "shard.tar", "state 1", ROWS)
        assert parts.finished(0) == written
        parts.write(1, "empty.tar", "state 2", [])
        parts.write_manifest(2, [written])
    assert (written.rows, written.errors, written.flagged) == (3, 1, 1)
    assert written.first_error == "b.png: is empty."
    assert (written.shard, written.identity) == ("shard.tar", "state 1")
    # The line of the documentation: neither the manifest nor an empty part is in the way.
    rows = pq.read_table(parts.root).to_pylist()
    assert rows == [row.as_row(["mcm"], p_value=True) for row in ROWS]
    manifest = json.loads((parts.root / MANIFEST).read_text())
    assert {name: manifest[name] for name in ("shards", "done", "rows", "errors", "flagged")} == {
        "shards": 2,
        "done": 1,
        "rows": 3,
        "errors": 1,
        "flagged": 1,
    }
    before = parts.path(0).read_bytes()
    parts.write(0, "shard.tar", "state 1", ROWS)
    assert parts.path(0).read_bytes() == before


def test_a_shard_is_given_up_after_some_attempts(tmp_path: Path) -> None:
    parts = started(tmp_path)
    for _ in range(MOST_ATTEMPTS):
        parts.begin(0, "bad.tar")
    parts.begin(1, "good.tar")
    with pytest.raises(InputError, match=r"5 workers died while they scored 'bad\.tar'"):
        parts.begin(0, "bad.tar")
    # The next run counts anew, and so does a shard that ended.
    with parts.opened(2):
        for _ in range(3):
            for _ in range(MOST_ATTEMPTS):
                parts.begin(0, "bad.tar")
            parts.write(0, "bad.tar", "state", ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "part-0000000.parquet"]


def test_folders_that_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt' and no _scores\.json"):
        started(other)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]

    root = tmp_path / "scores"
    parts = started(root)
    for by in (
        replace(BY, detector="f" * 64),
        replace(BY, encoder="f" * 64),
        replace(BY, columns=score_columns(["mcm"])),
    ):
        with (
            pytest.raises(InputError, match="holds scores of another detector"),
            ScoreParts(root, by).opened(2),
        ):
            pass
    with (
        parts.opened(2),
        pytest.raises(InputError, match="Another process writes scores"),
        parts.opened(2),
    ):
        pass
    ScoreParts(root, replace(BY, detector="f" * 64)).write(1, "a.tar", "state", ROWS)
    with parts.opened(2), pytest.raises(InputError, match="is of another detector"):
        parts.finished(1)
    with (
        pytest.raises(InputError, match=r"part-0000001\.parquet' is of a shard that is not among"),
        parts.opened(1),
    ):
        pass
    parts.path(1).write_bytes(b"PAR1 no table")
    with parts.opened(2), pytest.raises(InputError, match="is not what negrefine writes there"):
        parts.finished(1)
    pq.write_table(BY.table(ROWS), parts.path(1))
    with parts.opened(2), pytest.raises(InputError, match="is not what negrefine writes there"):
        parts.finished(1)
    (root / "more.parquet").write_bytes(b"")
    with (
        pytest.raises(InputError, match=r"more\.parquet' is no part of the scores"),
        parts.opened(2),
    ):
        pass
    for content, said in (
        ("{}", "is not what negrefine writes there"),
        ("[", "is not what negrefine writes there"),
        ('{"format": "negrefine-scores", "format_version": 9}', "is of format 9"),
    ):
        (root / MANIFEST).write_text(content)
        with pytest.raises(InputError, match=said), parts.opened(2):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        started(tmp_path / "file")


def test_rows_of_errors_only_have_the_types_of_others(tmp_path: Path) -> None:
    parts = started(tmp_path)
    parts.write(0, "a.tar", "state", [ScoredImage("a", None, error=str(ImageError("a: no.")))])
    parts.write(1, "b.tar", "state", ROWS)
    assert pq.read_schema(parts.path(0)).remove_metadata() == BY.schema
    assert pq.read_table(tmp_path).num_rows == 4
