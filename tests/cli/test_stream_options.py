"""`negrefine evaluate --stream`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_streams_are_evaluated_and_shown(
    quick: Any, folders: Path, lexicon_file: Path, tmp_path: Path
) -> None:
    done = quick(
        *("evaluate", "--id", folders / "animals", "--ood", f"food={folders / 'food'}"),
        *("--classes", folders / "classes.txt", "--encoder", "builtin", "--lexicon", lexicon_file),
        *("--methods", "mcm,neglabel", "--bootstrap", "0", "--no-report"),
        *("--out", tmp_path / "out", "--stream"),
        *("--stream-methods", "adaneg,oodd", "--stream-batch-sizes", "8", "--oodd-weight", "0.3"),
        *("--stream-ratios", "1:1,none", "--stream-orders", "bursts"),
    )
    assert done.code == 0, done.err
    assert "Streams: OOD in bursts of 64, ID to OOD 1:1, batches of 8" in done.out
    assert "no stream learns on mcm: without negative labels" in done.err
    content = json.loads((tmp_path / "out" / "streams.json").read_text(encoding="utf-8"))
    found = {(row["method"], row["ratio"]) for row in content["rows"]}
    methods = {"mcm", "neglabel", "AdaNeg + NegLabel", "OODD + NegLabel"}
    assert found == {(method, ratio) for method in methods for ratio in ("1:1", "none")}
    assert content["settings"]["seeds"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--stream-seeds", "0-9"], "--stream-seeds has no effect without --stream"),
        (["--stream", "--stream-seeds", "0-3"], "--stream-seeds names 4: give five or more"),
        (["--stream", "--stream-methods", "adanet"], "no stream method 'adanet': did you mean"),
        (["--stream", "--stream-orders", "sorted"], "order must be one of shuffled, mixed"),
        (["--stream", "--stream-batch-sizes", "0"], "whole numbers of at least 1, not '0'"),
        (
            ["--stream", "--stream-methods", "tanl", "--oodd-weight", "1"],
            "--oodd-weight has no effect without oodd",
        ),
    ],
)
def test_wrong_options_are_one_sentence(
    quick: Any, tmp_path: Path, options: list[str], said: str
) -> None:
    done = quick(
        *("evaluate", "--id", tmp_path, "--ood", f"a={tmp_path}", "--classes", "none.txt"),
        *("--encoder", "builtin", "--no-report", "--out", tmp_path / "out", *options),
    )
    assert done.code == 1
    assert said in done.err
    assert not (tmp_path / "out").exists()
