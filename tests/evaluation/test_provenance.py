"""Hashes of what an evaluation was measured on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from negrefine.evaluation import provenance
from negrefine.evaluation.provenance import images_digest
from negrefine.evaluation.results import Evaluation, load_evaluation


def test_images_have_one_hash_wherever_they_lie(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    names = {"a": b"one", "b": b"two", "c": b"one"}
    paths = [tmp_path / name for name in names]
    for path, content in zip(paths, names.values(), strict=True):
        path.write_bytes(content)
    first = images_digest(paths, known)
    moved = tmp_path / "moved"
    moved.write_bytes(b"two")
    assert images_digest([moved, paths[2], paths[0]], tmp_path / "other.json") == first
    assert images_digest(paths[:2], tmp_path / "other.json") != first
    assert images_digest([paths[0], paths[1], moved], tmp_path / "other.json") != first


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, known = tmp_path / "a", tmp_path / "known.json"
    path.write_bytes(b"one")
    first = images_digest([path], known)
    read: list[Path] = []
    digest = provenance.content_digest
    monkeypatch.setattr(provenance, "content_digest", lambda p: (read.append(p), digest(p))[1])
    assert images_digest([path], known) == first
    assert not read
    path.write_bytes(b"other")
    assert images_digest([path], known) != first
    assert read == [path]


def test_an_evaluation_says_what_it_was_measured_on(
    run: Callable[..., Evaluation], tmp_path: Path
) -> None:
    found = run(tmp_path / "a", ("mcm", "neglabel"), n_bootstrap=0)
    origin = found.provenance
    assert origin is not None
    assert [each.name for each in origin.sets] == ["ID", "food", "vehicles"]
    assert [each.n_images for each in origin.sets] == [len(each.paths) for each in found.sets]
    assert set(origin.negative_labels) == {"neglabel"}
    assert load_evaluation(tmp_path / "a").provenance == origin
    assert run(tmp_path / "b", ("mcm", "neglabel"), n_bootstrap=0).provenance == origin
