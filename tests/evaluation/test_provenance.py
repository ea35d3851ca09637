"""Hashes of what an evaluation was measured on."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from negrefine.detectors import Detector
from negrefine.evaluation import provenance
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.images import find_image_set, find_source_set
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


def test_images_in_an_archive_have_the_hash_of_their_folder(
    run: Callable[..., Evaluation],
    fit: Callable[..., dict[str, Detector]],
    folders: Path,
    tmp_path: Path,
) -> None:
    plain = run(tmp_path / "plain", n_bootstrap=0).provenance
    with tarfile.open(tmp_path / "food.tar", "w") as archive:
        archive.add(folders / "food", "food")
    packed = evaluate(
        fit("mcm"),
        find_image_set("animals", folders / "animals"),
        [find_source_set("food", str(tmp_path / "food.tar"))],
        out=tmp_path / "packed",
        n_bootstrap=0,
    ).provenance
    assert plain is not None
    assert packed is not None
    assert [each.images for each in packed.sets] == [each.images for each in plain.sets[:2]]
