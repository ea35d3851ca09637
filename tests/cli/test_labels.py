"""`negrefine labels`: kept and removed labels with their reasons."""

from __future__ import annotations

import csv
import io
from typing import Any

from cli.workspace import Workspace


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
