"""Batches of other engines with the columns of `negrefine score`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cli.workspace import make_broken_images
from negrefine import MCM
from negrefine.adapters.batch_scorer import Scorer
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.evaluation.image_scores import score_files

COLUMNS = ["path", "score", "mcm", "p_value", "verdict", "nearest_class", "similarity"]
COLUMNS += ["runner_up", "runner_up_similarity", "nearest_negative", "negative_similarity", "error"]


@pytest.fixture(scope="module")
def pictures(demo_pictures: list[Path]) -> list[Path]:
    return demo_pictures[:5]


@pytest.fixture(scope="module")
def saved(
    builtin_encoder: CLIPEncoder,
    demo_pictures: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "detector"
    detector = MCM(builtin_encoder).fit(["dog", "cat", "owl"])
    detector.calibrate(demo_pictures[5:15], fpr=0.2).save(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(saved: Path) -> Scorer:
    return Scorer(saved, image="picture", name="key", device="cpu", batch_size=2)


def batch_of(pictures: list[Path], extra: Any) -> dict[str, list[Any]]:
    images = [pictures[0].read_bytes(), str(pictures[1]), {"bytes": None, "path": pictures[2]}]
    images += [Image.open(pictures[3]), np.asarray(Image.open(pictures[4])), extra]
    return {"key": [0, 1, 2, 3, 4, 5], "picture": images, "kept": list("abcdef")}


def check(rows: list[dict[str, Any]], scorer: Scorer, pictures: list[Path]) -> None:
    expected = score_files(scorer.detector, pictures)
    assert [row["path"] for row in rows] == list("012345")
    for row, wanted in zip(rows, expected, strict=False):
        assert row["score"] == pytest.approx(wanted.score, abs=1e-6)
        assert row["mcm"] == row["score"]
        assert (row["verdict"], row["nearest_class"]) == (wanted.verdict, wanted.nearest_class)
        assert row["error"] is None
    assert rows[5]["nearest_class"] is None
    assert rows[5]["score"] is None or np.isnan(rows[5]["score"])


def test_mappings_of_columns(scorer: Scorer, pictures: list[Path]) -> None:
    batch = batch_of(pictures, None)
    scored = scorer(batch)
    assert list(scored) == ["key", "kept", *COLUMNS]
    assert scored["score"].dtype == np.float64
    rows = [{name: scored[name][i] for name in scored} for i in range(6)]
    check(rows, scorer, pictures)
    assert rows[5]["error"] == "5: has no image; leave it out."
    assert scored["kept"] is batch["kept"]


def test_frames_of_pandas_as_spark_gives_them(scorer: Scorer, pictures: list[Path]) -> None:
    frame = pd.DataFrame(batch_of(pictures, b"no image"), index=[7, 7, 7, 1, 0, 2])

    def score(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        yield from map(scorer, frames)

    (scored,) = score(iter([frame]))
    assert list(scored.columns) == ["key", "kept", *COLUMNS]
    assert list(scored.index) == [7, 7, 7, 1, 0, 2]
    rows = scored.astype(object).where(scored.notna(), None).to_dict("records")
    check(rows, scorer, pictures)
    assert "is not an image" in rows[5]["error"]
    # As rows of error alone, a frame has the same types.
    nothing = scorer(frame.iloc[5:])
    assert nothing["score"].dtype == np.float64


def test_tables_of_arrow(saved: Path, pictures: list[Path], tmp_path: Path) -> None:
    broken = make_broken_images(tmp_path)
    paths = [*map(str, pictures), *(str(tmp_path / name) for name in broken)]
    scorer = Scorer(saved, image="path", device="cpu")
    table = pa.table({"path": paths, "n": range(len(paths))})
    scored = scorer(table)
    assert scored.schema == pa.schema([pa.field("n", pa.int64()), *scorer.schema])
    expected = [row.as_row(["mcm"], p_value=True) for row in score_files(scorer.detector, paths)]
    for row, wanted in zip(scored.drop_columns("n").to_pylist(), expected, strict=True):
        assert row.pop("score") == pytest.approx(wanted.pop("score"), abs=1e-6)
        assert row.pop("mcm") == pytest.approx(wanted.pop("mcm"), abs=1e-6)
        for name in ("similarity", "runner_up_similarity"):
            assert row.pop(name) == pytest.approx(wanted.pop(name), abs=1e-6)
        assert row == wanted
    assert scorer(table.slice(0, 0)).num_rows == 0
    records = pa.table({"picture": [{"bytes": pictures[0].read_bytes(), "path": "x.png"}]})
    (row,) = Scorer(saved, image="picture", device="cpu")(records).to_pylist()
    assert row["path"] == "x.png"
    assert row["score"] == pytest.approx(scored["score"][0].as_py(), abs=1e-6)


def test_batches_of_a_loader(scorer: Scorer, pictures: list[Path]) -> None:
    items = [(torch.from_numpy(np.array(Image.open(p).convert("RGB"))), p) for p in pictures]
    items = [(image.permute(2, 0, 1), path) for image, path in items]

    def collate(pairs: list[Any]) -> dict[str, list[Any]]:
        images, keys = zip(*pairs, strict=True)
        return {"picture": list(images), "key": list(keys)}

    loader = DataLoader(items, batch_size=3, collate_fn=collate)  # type: ignore[arg-type]
    scores = np.concatenate([scorer(batch)["score"] for batch in loader])
    images = [np.asarray(Image.open(path).convert("RGB")) for path in pictures]
    np.testing.assert_allclose(scores, scorer.detector.score_samples(images), rtol=0, atol=1e-6)


def test_what_is_wrong_is_said(scorer: Scorer, saved: Path, pictures: list[Path]) -> None:
    with pytest.raises(InputError, match="A batch has no column 'picture', only 'image'"):
        scorer({"image": []})
    with pytest.raises(InputError, match="A batch has a column 'score', and so have the scores"):
        scorer({"picture": [], "key": [], "score": []})
    with pytest.raises(InputError, match="is another one on this machine"):
        Scorer(saved, device="cpu", identity="0" * 64)
    threads = torch.get_num_threads()
    try:
        Scorer(saved, device="cpu", threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
