"""Finished work is taken up, and only where it still applies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from negrefine import Detector
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.store import SetStore
from negrefine.files.identity import file_stamp

Run = Callable[..., Evaluation]
Fit = Callable[..., dict[str, Detector]]


def times(files: list[Path]) -> list[int]:
    return [path.stat().st_mtime_ns for path in files]


@pytest.fixture
def images(folders: Path, tmp_path: Path) -> Path:
    """A copy of the folders to change."""
    root = tmp_path / "images"
    shutil.copytree(folders, root, copy_function=shutil.copy2)
    return root


def test_further_methods_and_seeds_encode_nothing(run: Run, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (images / "animals" / "broken.png").unlink()
    run(out, root=images)
    blocks = sorted((out / "features").rglob("*.safetensors"))
    before = times(blocks)
    found = run(out, ("mcm", "csp"), root=images, seeds=(0, 1))
    assert times(blocks) == before
    assert set(found.id_set.scores["csp"]) == {0, 1}
    parts = sorted((out / "parts").rglob("*.safetensors"))
    scored = times(parts)
    run(out, ("csp", "mcm"), root=images, seeds=(1, 0, 2))
    assert times(parts) == scored
    changed = sorted((images / "food").iterdir())[0]
    os.utime(changed, ns=(1, 1))
    run(out, root=images)
    assert [now == then for now, then in zip(times(blocks), before, strict=True)] == [
        True,
        False,
        True,
    ]


def test_scores_are_kept(run: Run, fit: Fit, tmp_path: Path) -> None:
    out, variant = tmp_path / "out", "NegFilter + S_MM"
    detectors = fit("negrefine")
    first = run(out, detectors, with_ablation=True)
    kept = sorted((out / "parts" / "00-ID").glob("*.safetensors"))
    # S_NegLabel with and without the filter, each with alpha 2 and 0; S_MM with and without it.
    assert len(kept) == 4 + 2
    before = times(kept)
    # What is kept is what counts: another number there is another score, for all equal detectors.
    s_mm = {path: load_file(path) for path in kept if "multi_match" in load_file(path)}
    for path, arrays in s_mm.items():
        arrays["multi_match"][0] += 7.0
        with safe_open(path, framework="np") as stream:
            metadata = stream.metadata()
        save_file(arrays, path, metadata)
    second = run(out, detectors, with_ablation=True)
    unchanged = [path for path in kept if path not in s_mm]
    assert times(unchanged) == [
        t for path, t in zip(kept, before, strict=True) if path in unchanged
    ]
    for row in (variant, "negrefine", "no filter + S_MM"):
        change = second.id_set.readable_scores(row)[0] - first.id_set.readable_scores(row)[0]
        assert change[0] == pytest.approx(2 * 7)
        np.testing.assert_array_equal(change[1:], 0)
    # Other labels, other scores.
    third = run(out, fit("negrefine", top_fraction=0.5), with_ablation=True)
    assert third.id_set.readable_scores(variant)[0][0] < 4


@pytest.mark.parametrize(
    "damage", ["rows", "type", "NaN", "shape", "name", "errors", "deep", "cut", "noise"]
)
@pytest.mark.parametrize("kind", ["features", "parts"])
def test_a_damaged_block_is_computed_again(
    kind: str, damage: str, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = run(out)
    (file,) = (out / kind / "00-ID").glob("*.safetensors")
    whole = file.read_bytes()
    with safe_open(file, framework="np") as stream:
        metadata = stream.metadata()
    ((name, array),) = load_file(file).items()
    if damage == "rows":
        array = array[1:]
    elif damage == "type":
        array = array.astype(np.float16)
    elif damage == "NaN":
        array = np.where(np.arange(array.size).reshape(array.shape) == 3, np.nan, array)
        array = array.astype(np.float32 if kind == "features" else np.float64)
    elif damage == "shape":
        array = array[..., None]
    elif damage == "name":
        name = "other"
    elif damage == "errors":
        metadata["errors"] = "[5" if kind == "parts" else "[null, 7]"
    elif damage == "deep":
        metadata["errors"] = "[" * 100_000
    save_file({name: array}, file, metadata)
    if damage in ("cut", "noise"):
        file.write_bytes(whole[:-30] if damage == "cut" else bytes(100))
    with pytest.warns(UserWarning, match=rf"{kind}/00-ID/.* is damaged: .* computed again"):
        second = run(out)
    np.testing.assert_array_equal(second.id_set.scores["mcm"][0], first.id_set.scores["mcm"][0])
    # Written anew.
    third = run(out)
    np.testing.assert_array_equal(third.id_set.scores["mcm"][0], first.id_set.scores["mcm"][0])


def test_equal_detectors_are_scored_once(
    run: Run, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refine = fit("negrefine")["negrefine"]
    scored = []
    original = type(refine).score_feature_parts

    def counting(self: Detector, features: np.ndarray, *args: object, **options: object) -> object:
        if len(features) and "multi_match" in (options.get("only") or ()):
            scored.append(len(features))
        return original(self, features, *args, **options)

    monkeypatch.setattr(type(refine), "score_feature_parts", counting)
    calibrated = refine.with_params().calibrate_scores(np.arange(40.0), 0.1)
    found = run(tmp_path / "out", {"a": refine, "b": calibrated}, seeds=(0, 1, 2))
    assert scored == [16, 16, 16]
    np.testing.assert_array_equal(found.id_set.scores["a"][2], found.id_set.scores["b"][2])


def test_a_broken_image_costs_itself_and_is_tried_again(
    run: Run, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    block = out / "features" / "00-ID" / "00000.safetensors"
    image = sorted((images / "animals").rglob("*.png"))[0]
    content = image.read_bytes()
    image.write_bytes(bytes(len(content)))
    os.utime(image, ns=(5, 5))
    first = run(out, root=images)
    assert int((~first.id_set.readable).sum()) == 2
    written = block.stat().st_mtime_ns
    run(out, root=images)
    assert block.stat().st_mtime_ns == written
    # As if a server had answered again: neither size nor time tells that the file was repaired.
    image.write_bytes(content)
    os.utime(image, ns=(5, 5))
    second = run(out, root=images)
    assert int((~second.id_set.readable).sum()) == 1


def test_patch_scores_are_kept_and_completed(
    run: Run, fit: Fit, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (images / "animals" / "broken.png").unlink()
    run(out, root=images)
    blocks = sorted((out / "features").rglob("*.safetensors"))
    before = times(blocks)
    first = run(out, ("mcm", "glmcm"), root=images)
    assert times(blocks) == before
    parts = sorted((out / "parts").rglob("*.safetensors"))
    scored = times(parts)
    second = run(out, ("glmcm",), root=images)
    assert times(parts) == scored
    np.testing.assert_array_equal(first.id_set.scores["glmcm"][0], second.id_set.scores["glmcm"][0])
    paths = [Path(path) for path in first.id_set.paths]
    expected = fit("glmcm")["glmcm"].score_samples(paths)
    np.testing.assert_allclose(first.id_set.scores["glmcm"][0], expected, atol=1e-5)


def test_a_killed_run_continues(folders: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "negrefine", "evaluate", "--encoder", "builtin"]
    command += ["--methods", "mcm,neglabel", "--min-frequency", "3", "--bootstrap", "5"]
    command += ["--classes", str(folders / "classes.txt"), "--id", str(folders / "animals")]
    for name in ("food", "vehicles"):
        command += ["--ood", f"{name}={folders / name}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, "--out", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    first = killed / "features" / "00-ID" / "00000.safetensors"
    until = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    done = subprocess.run(
        [*command, "--out", str(killed)], check=True, capture_output=True, text=True
    )
    assert "1 of 17 images of ID could not be read and were left out" in done.stderr
    for name in ("evaluation.json", "results.csv", "results.tex", "scores/01-food.parquet"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def test_names_with_line_breaks_are_not_taken_for_several_files(
    own_encoder: Any, pictures_of_two: tuple[Path, Path], tmp_path: Path
) -> None:
    """The stamps of the files [a, b] and of a file named "<stamp of a>\\n<path of b>" are alike."""
    first, second = pictures_of_two
    crafted = Path(f"{file_stamp(first)}\n{second}")
    crafted.parent.mkdir(parents=True)
    crafted.hardlink_to(second)
    assert file_stamp(crafted) == f"{file_stamp(first)}\n{file_stamp(second)}"
    store = SetStore(tmp_path / "out", "00-ID", "animals", progress=False)
    assert [len(b.features) for b in store.encode(own_encoder, [first, second], [], 64)] == [2]
    # Not a damaged block, which would be a warning, but that of another set.
    assert [len(b.features) for b in store.encode(own_encoder, [crafted], [], 64)] == [1]


@pytest.fixture
def pictures_of_two(folders: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of two images, in a folder that may be filled."""
    found = sorted((folders / "animals").rglob("*.png"))
    copies = tmp_path / "a.png", tmp_path / "b.png"
    for source, copy in zip(
        [each for each in found if each.stem != "broken"], copies, strict=False
    ):
        shutil.copy(source, copy)
    return copies


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("kind", ["features", "parts"])
def test_pipes_in_place_of_a_block_are_not_waited_for(kind: str, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, n_bootstrap=0)
    (file,) = (out / kind / "00-ID").glob("*.safetensors")
    file.unlink()
    os.mkfifo(file)
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(InputError, match=r"safetensors': it is a named pipe, not a regular file"),
    ):
        run(out, n_bootstrap=0)
