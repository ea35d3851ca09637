"""`evaluate`: one pass over the images, numbers as `metrics` gives them, any detectors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from negrefine import MCM, Detector, Lexicon, NegLabel, NegRefine, metrics
from negrefine.benchmarks.bundled import demo_class_names
from negrefine.constraints import Whole
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.loading import load_detector
from negrefine.detectors.parameters import detector, parameter
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, InputError, NotFittedError
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.images import ImageSet, find_image_set
from negrefine.evaluation.results import Evaluation, load_evaluation

Run = Callable[..., Evaluation]
Fit = Callable[..., dict[str, Detector]]


@detector
class LargestCosine(Detector):
    """A detector of a user's own: the largest cosine, plus a number that a seed gives."""

    method = "largest-cosine"
    seed_parameter = "draw"
    parts = ("cosine",)

    draw: int = parameter(0, Whole(0), "Added to the score.")

    def compute_part(self, name: str, images: ImageBlock) -> torch.Tensor:  # noqa: ARG002
        return images.classes.max(dim=1).values + self.draw


@detector
class WithPatches(LargestCosine):
    """The same on patch features, which are not kept."""

    method = "patches"
    uses_patches = True

    def compute_part(self, name: str, images: ImageBlock) -> torch.Tensor:  # noqa: ARG002
        assert images.patches is not None
        return torch.from_numpy(images.patches).double().sum(dim=(1, 2)) + self.draw


@detector
class SameName(MCM):
    """Another method that forgot to choose another name."""

    def compute_part(self, name: str, images: ImageBlock) -> torch.Tensor:
        return -super().compute_part(name, images)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs locks on directories")
def test_one_evaluation_at_a_time_in_a_folder(run: Run, tmp_path: Path) -> None:
    found = run(tmp_path / "out", ("mcm",))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    code = (
        "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match=r"Another process is evaluating into .*/out': wait"):
            run(tmp_path / "out", ("glmcm",))
        other.communicate(b"")
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before
    assert run(tmp_path / "out", ("mcm",)).results == found.results


def test_numbers(run: Run, fit: Fit, tmp_path: Path) -> None:
    methods = ("mcm", "glmcm", "neglabel", "csp", "negrefine")
    found = run(tmp_path / "out", methods, seeds=(0, 3), with_ablation=True)
    expected_of = [("mcm", 0, fit("mcm")), ("neglabel", 3, fit("neglabel", seed=3))]
    sets = {image_set.name: image_set for image_set in found.sets}
    for method, seed, fitted in expected_of:
        for image_set in sets.values():
            readable = image_set.readable
            paths = [Path(p) for p, ok in zip(image_set.paths, readable, strict=True) if ok]
            expected = fitted[method].score_samples(paths)
            scores = image_set.scores[method][seed][readable]
            np.testing.assert_allclose(scores, expected, atol=1e-5)
    for row in found.results:
        if row.ood_set == "mean":
            others = [r for r in found.results if r.method == row.method and r is not row]
            assert row.auroc.value == pytest.approx(np.mean([r.auroc.value for r in others]))
            continue
        inside = found.id_set.readable_scores(row.method)
        outside = list(sets[row.ood_set].scores[row.method].values())
        each = [metrics.auroc(i, o) for i, o in zip(inside, outside, strict=True)]
        assert row.auroc.value == pytest.approx(np.mean(each), abs=1e-12)
        assert row.auroc.low is not None
        assert row.auroc.high is not None
        assert 0 <= row.auroc.low <= row.auroc.high <= 1
        assert row.auroc.std == (
            None if row.method in ("mcm", "glmcm") else pytest.approx(np.std(each, ddof=1))
        )
    full = found.id_set.scores["negrefine"][0]
    np.testing.assert_allclose(found.id_set.scores["NegFilter + S_MM"][0], full, atol=1e-9)
    assert len(found.ablation) == 4 * 3
    assert found.id_set.errors.count(None) == 16
    assert found.id_set.labels[[p.endswith("broken.png") for p in found.id_set.paths]] == [-1]
    right = (found.id_set.labels == found.id_set.predictions)[found.id_set.readable]
    assert found.accuracy is not None
    assert found.accuracy.value == right.mean()


def test_seeds_are_those_of_detectors_fitted_with_them(run: Run, fit: Fit, tmp_path: Path) -> None:
    found = run(tmp_path / "out", ("negrefine",), seeds=(4, 0), n_bootstrap=0)
    for seed in (4, 0):
        each = run(
            tmp_path / str(seed), fit("negrefine", group_seed=seed), n_bootstrap=0, seeds=(seed,)
        )
        np.testing.assert_allclose(
            found.id_set.scores["negrefine"][seed],
            each.id_set.scores["negrefine"][seed],
            atol=1e-12,
        )


def test_rows_are_any_detectors(
    run: Run, fit: Fit, builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    refine = fit("negrefine")["negrefine"]
    own = LargestCosine(builtin_encoder).fit(demo_class_names())
    detectors = {
        "NegRefine alpha=1": refine.with_params(alpha=1),
        "NegRefine alpha=1/2": refine.with_params(alpha=0.5),
        "../own|\U0001f600": own,
        "mcm": MCM(builtin_encoder).fit(demo_class_names()),
        "patches": WithPatches(builtin_encoder).fit(demo_class_names()),
        "reversed": SameName(builtin_encoder).fit(demo_class_names()),
    }
    found = run(tmp_path / "out", detectors, seeds=(0, 2))
    assert found.methods == list(detectors)
    titles = [found.title_of(row) for row in found.methods]
    assert titles == [*list(detectors)[:3], "MCM", "patches", "reversed"]
    for row in ("../own|\U0001f600", "patches"):
        by_seed = found.ood_sets[0].scores[row]
        np.testing.assert_allclose(by_seed[2] - by_seed[0], 2)
    mcm, reversed_mcm = (found.ood_sets[0].scores[row][0] for row in ("mcm", "reversed"))
    np.testing.assert_array_equal(mcm, -reversed_mcm)
    one, half = (found.ood_sets[0].scores[row][0] for row in found.methods[:2])
    parts = found.ood_sets[0].parts[found.methods[0]]
    np.testing.assert_allclose(one - half, 0.5 * parts["multi_match"], atol=1e-12)
    # What is saved does not leave the folder, one directory for each, and cannot always be loaded.
    assert len({path.resolve() for path in found.detectors.values()}) == len(detectors)
    assert all(path.parent == tmp_path / "out" / "detectors" for path in found.detectors.values())
    assert found.detectors["mcm"].name == "mcm"
    again = load_detector(found.detectors["NegRefine alpha=1"], builtin_encoder)
    assert isinstance(again, NegRefine)
    assert again.alpha == 1
    with pytest.raises(BundleError):
        load_detector(found.detectors["../own|\U0001f600"], builtin_encoder)
    loaded = load_evaluation(tmp_path / "out")
    assert loaded.results == found.results
    assert loaded.titles == found.titles == {"mcm": "MCM"}
    np.testing.assert_array_equal(
        loaded.id_set.scores["../own|\U0001f600"][2], found.id_set.scores["../own|\U0001f600"][2]
    )


def test_an_encoder_of_ones_own(folders: Path, own_encoder: Any, tmp_path: Path) -> None:
    names = demo_class_names()
    found = evaluate(
        {"MCM": MCM(own_encoder).fit(names), "own": LargestCosine(own_encoder).fit(names)},
        find_image_set("animals", folders / "animals", names),
        [find_image_set("food", folders / "food")],
        out=tmp_path / "out",
    )
    assert int((~found.id_set.readable).sum()) == 1
    assert "broken.png" in next(error for error in found.id_set.errors if error is not None)
    assert found.settings["encoder"]["dtype"] == ""
    readable = [
        Path(p) for p, e in zip(found.id_set.paths, found.id_set.errors, strict=True) if not e
    ]
    np.testing.assert_allclose(
        found.id_set.readable_scores("MCM")[0],
        MCM(own_encoder).fit(names).score_samples(readable),
        atol=1e-6,
    )


def test_what_cannot_be_evaluated(
    run: Run,
    fit: Fit,
    folders: Path,
    builtin_encoder: CLIPEncoder,
    own_encoder: Any,
    small_lexicon: Lexicon,
    tmp_path: Path,
) -> None:
    def attempt(match: str, detectors: Any = ("mcm",), **options: Any) -> None:
        with pytest.raises(InputError, match=match):
            run(tmp_path / "x", detectors, **options)

    mcm = fit("mcm")["mcm"]
    attempt("There is no detector", {})
    attempt("A detector cannot be called ''", {"": mcm})
    attempt("A detector cannot be called 'mcm'", {"mcm": mcm}, ablation={"mcm": mcm})
    attempt("not valid Unicode", {"\ud800": mcm})
    attempt("A seed is named twice", seeds=(1, 1))
    attempt("at least 0", seeds=(-1,))
    other = MCM(builtin_encoder).fit(["cat", "dog"])
    attempt("'mcm' and 'b' were not fitted with the same class names", {"mcm": mcm, "b": other})
    other = MCM(own_encoder).fit(demo_class_names())
    attempt("were not fitted with the same encoder", {"mcm": mcm}, ablation={"b": other})
    unfitted = NegLabel(builtin_encoder, lexicon=small_lexicon)
    with pytest.raises(NotFittedError, match="The detector 'n' is not fitted: call fit"):
        run(tmp_path / "x", {"mcm": mcm, "n": unfitted})
    assert not (tmp_path / "x").exists()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("mine")
    attempt("holds other files")
    (tmp_path / "x" / "thesis.txt").unlink()
    run(tmp_path / "x")
    images = ImageSet("food", sorted((folders / "food").iterdir()))
    cat = {"mcm": MCM(builtin_encoder).fit(["cat", "dog"])}
    with pytest.raises(InputError, match="another list of classes"):
        evaluate(cat, images, [images], out=tmp_path / "x")
    with pytest.raises(InputError, match="called 'ID'"):
        evaluate(cat, images, [ImageSet("ID", images.paths)], out=tmp_path / "y")
    with pytest.raises(InputError, match="16 images and 1 labels"):
        evaluate(cat, ImageSet("a", images.paths, [0]), [images], out=tmp_path / "y")
    for ood, problem in (
        (images, "must be a list of ImageSets, not of type ImageSet"),
        ({"a": images}, "must be a list of ImageSets, not of type dict"),
        ([folders], r"ood_images\[0\] must be an ImageSet, not a .*Path: .*find_image_set"),
    ):
        with pytest.raises(InputError, match=problem):
            evaluate(cat, images, ood, out=tmp_path / "y")
    with pytest.raises(InputError, match="id_images must be an ImageSet, not a list"):
        evaluate(cat, images.paths, [images], out=tmp_path / "y")
    with pytest.raises(InputError, match="detectors must map the name of each row"):
        evaluate([mcm], images, [images], out=tmp_path / "y")
    assert ImageSet("food", [str(path) for path in images.paths]) == images
    broken = ImageSet("broken", [folders / "animals" / "broken.png"])
    with pytest.raises(InputError, match="None of the 1 images of broken"):
        evaluate(cat, images, [broken], out=tmp_path / "z")
    with pytest.raises(InputError, match="no finished evaluation"):
        load_evaluation(tmp_path / "z")
