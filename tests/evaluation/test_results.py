"""An evaluation on disk is the one in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negrefine.errors import InputError
from negrefine.evaluation.results import (
    Evaluation,
    detector_directory,
    load_evaluation,
    set_directory,
)

Run = Callable[..., Evaluation]


def test_loads_what_was_saved(run: Run, tmp_path: Path) -> None:
    found = run(tmp_path / "out", ("csp", "negrefine"), seeds=(0, 3), with_ablation=True)
    again = load_evaluation(tmp_path / "out")
    assert again.results == found.results
    assert again.ablation == found.ablation
    assert again.accuracy == found.accuracy
    assert again.titles == found.titles == {"csp": "CSP", "negrefine": "NegRefine"}
    np.testing.assert_array_equal(again.id_set.scores["csp"][3], found.id_set.scores["csp"][3])
    np.testing.assert_array_equal(
        again.id_set.parts["negrefine"]["multi_match"],
        found.id_set.parts["negrefine"]["multi_match"],
    )
    assert again.id_set.errors == found.id_set.errors
    assert again.id_set.groups == found.id_set.groups


def test_says_what_is_damaged(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished evaluation"):
        load_evaluation(tmp_path)
    run(tmp_path / "out", n_bootstrap=0)
    manifest = tmp_path / "out" / "evaluation.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    for change, match in (({"format": 0}, "another version"), ({"results": [{}]}, "is damaged")):
        manifest.write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(InputError, match=match):
            load_evaluation(tmp_path / "out")
    manifest.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        load_evaluation(tmp_path / "out")
    manifest.write_text(json.dumps(content), encoding="utf-8")
    (scores, *_) = (tmp_path / "out" / "scores").iterdir()
    scores.unlink()
    os.mkfifo(scores)
    with pytest.raises(InputError, match=r"is damaged \(it is a named pipe, not a regular file"):
        load_evaluation(tmp_path / "out")


@given(names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True, max_size=4))
def test_file_names_are_safe_and_distinct(names: list[str]) -> None:
    directories = [detector_directory(name) for name in names]
    assert len({name.casefold() for name in directories}) == len(names)
    for name in [*directories, *(set_directory(1, name) for name in names)]:
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>|\0\n ')
        assert not name.startswith(".")
        assert len(name) < 80
