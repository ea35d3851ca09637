"""Shards and batches scored on a Ray cluster on this machine, with workers that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from deadly_shard import DeadlyShard

from commands import NEGREFINE
from conftest import CLASS_NAMES
from negrefine import MCM, Detector, Lexicon, NegRefine
from negrefine.adapters.ray import Scorer, score_shards
from negrefine.benchmarks.bundled import demo_images
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.evaluation.source_scores import score_sources
from negrefine.sources.files import FilesShard
from negrefine.sources.opening import open_sources
from negrefine.sources.tar import TarShard

N_TARS, PER_TAR = 4, 6
# Ray copies its settings, the outdated ones too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two workers, which find `DeadlyShard`."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    patch = pytest.MonkeyPatch()
    # Ray's own setting for this starts more processes.
    patch.setenv("PYTHONPATH", paths)
    # Otherwise they yield to all other programs, and starve where several tests run.
    patch.setenv("RAY_worker_niceness", "0")
    for attempt in range(3):
        try:
            ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                object_store_memory=100 << 20,
                log_to_driver=False,
                logging_level="ERROR",
            )
            break
        # Ray gives itself half a minute, which is little on a busy machine.
        except Exception:
            ray.shutdown()
            if attempt == 2:
                raise
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    patch.undo()


@pytest.fixture(scope="module")
def detector(builtin_encoder: CLIPEncoder, small_lexicon: Lexicon) -> Detector:
    mining: dict[str, Any] = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 4}
    fitted = NegRefine(builtin_encoder, judge="none", **mining).fit(CLASS_NAMES)
    # Other pictures than those of `demo_pictures`: p-values jump where scores are equal.
    return fitted.calibrate([image.path for image in demo_images()][4::27], fpr=0.2)


@pytest.fixture(scope="module")
def folder(
    detector: Detector, demo_pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved detector, and pictures in archives and as files, one of them damaged."""
    root = tmp_path_factory.mktemp("fleet")
    detector.save(root / "detector")
    for number in range(N_TARS):
        with tarfile.open(root / f"{number}.tar", "w") as archive:
            for picture in tar_pictures(demo_pictures, number):
                archive.add(picture, picture.name)
    (root / "files").mkdir()
    for picture in demo_pictures[-5:]:
        (root / "files" / picture.name).write_bytes(picture.read_bytes())
    (root / "files" / "a.png").write_bytes(b"no image")
    return root


def tar_pictures(pictures: list[Path], number: int) -> list[Path]:
    return pictures[number * PER_TAR : (number + 1) * PER_TAR]


def check_rows(rows: list[dict[str, Any]], expected: list[ScoredImage]) -> None:
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        wanted = other.as_row(["neglabel", "multi_match"], p_value=True)
        assert list(row) == list(wanted)
        for name, value in wanted.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, abs=1e-6)
            else:
                assert row[name] == value


def test_a_killed_worker_loses_and_doubles_nothing_and_a_run_continues(
    cluster: str, detector: Detector, folder: Path, demo_pictures: list[Path], tmp_path: Path
) -> None:
    tars = [TarShard(str(folder / f"{number}.tar")) for number in range(N_TARS)]
    (files,) = open_sources(folder / "files")
    assert isinstance(files, FilesShard)
    mark, out = tmp_path / "killed", tmp_path / "scores"
    done = score_shards(
        folder / "detector", [*tars, DeadlyShard(files, str(mark))], out, device="cpu"
    )
    assert int(mark.read_text()) != os.getpid()
    rows = pq.read_table(out).to_pylist()
    check_rows(rows, score_sources(detector, [*tars, files]))
    assert [row["path"] for row in rows[:2]] == [
        f"{folder}/0.tar/{picture.name}" for picture in demo_pictures[:2]
    ]
    assert [part.rows for part in done.parts] == [6, 6, 6, 6, 6]
    assert [part.errors for part in done.parts] == [0, 0, 0, 0, 1]
    assert "a.png: is not an image" in str(done.parts[4].first_error)
    assert (done.n_kept, done.n_replaced) == (0, 0)
    assert done.lookups.asked == 25 * 29
    manifest = json.loads((out / "_scores.json").read_text())
    assert (manifest["shards"], manifest["done"], manifest["rows"]) == (5, 5, 30)
    assert manifest["detector"] == detector.identity()
    assert sorted(path.name for path in out.iterdir()) == [
        "_scores.json",
        *(f"part-000000{number}.parquet" for number in range(5)),
    ]

    # One part is lost, and one shard changes: both are scored again, by the command, and no other.
    (out / "part-0000001.parquet").unlink()
    with tarfile.open(folder / "2.tar", "w") as archive:
        archive.add(demo_pictures[0], "other.png")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    arguments = [str(folder / f"{n}.tar") for n in range(N_TARS)] + [str(folder / "files")]
    command = [*NEGREFINE, "score", str(folder / "detector"), *arguments, "--device", "cpu"]
    ended = subprocess.run(
        [*command, "--ray", cluster, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
    said = [line for line in ended.stderr.splitlines() if not line.startswith("Scoring shards: ")]
    assert said[0] == (
        "negrefine: warning: 1 part of an earlier run had another shard in this place, or one that "
        "has changed, and was scored again."
    )
    assert said[1].startswith("negrefine: warning: 1 of 25 images could not be read; the first: ")
    assert said[2] == f"Wrote 25 rows to 5 parts in {out}, 3 of them from earlier runs."
    assert said[3].startswith("Pairs of names: 175 asked, ")
    assert len(said) == 4
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"_scores.json", "part-0000002.parquet"}
    shards = open_sources(arguments)
    check_rows(pq.read_table(out).to_pylist(), score_sources(detector, shards))

    # Nothing is left to do, so no worker is needed; another detector has no business here.
    again = score_shards(folder / "detector", shards, out)
    assert again.n_kept == 5
    assert again.lookups.asked == 0
    MCM(detector.encoder).fit(CLASS_NAMES).save(tmp_path / "other")
    with pytest.raises(InputError, match="holds scores of another detector"):
        score_shards(tmp_path / "other", shards, out)


def test_batches_of_a_data_set(
    cluster: str, detector: Detector, folder: Path, demo_pictures: list[Path]
) -> None:
    images = [path.read_bytes() for path in demo_pictures[:7]] + [b"no image"]
    table = pa.table({"id": range(8), "bytes": images})
    scored = ray.data.from_arrow(table).map_batches(
        Scorer,
        fn_constructor_args=(str(folder / "detector"),),
        fn_constructor_kwargs={"image": "bytes", "name": "id", "threads": 1, "device": "cpu"},
        batch_format="pyarrow",
        batch_size=3,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
    )
    rows = sorted(scored.take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(8))
    assert [row["path"] for row in rows] == [str(i) for i in range(8)]
    expected = detector.score_samples(demo_pictures[:7])
    np.testing.assert_allclose([row["score"] for row in rows[:7]], expected, rtol=0, atol=1e-6)
    assert rows[7]["score"] is None
    assert "is not an image" in rows[7]["error"]
