"""The official implementations' numbers on synthetic features, in batches of their sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

import negrefine
from negrefine.detectors.scores import eoe_score

Arrays = dict[str, NDArray[Any]]
# EOE's cases are cosines in single precision, which processors sum up to 6e-8 differently. They are
# divided by a temperature of 0.01 before a softmax.
TOLERANCES = {"AdaNeg": 2e-6, "TANL": 2e-6, "OODD": 1e-6, "EOE": 3e-6}


class Golden:
    """The inputs and the outputs of every case."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "stream.json").read_text(encoding="utf-8"))
        self.scale: float = facts["logit_scale"]
        self.cases: list[dict[str, Any]] = facts["cases"]
        self.arrays = load_file(folder / "stream.safetensors")

    def scores(self, case: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """Return our scores of a case and, where the code has them, our predictions."""
        a = self.arrays
        classes, negatives, images = (
            a[f"{name}_features"] for name in ("class", "negative", "image")
        )
        if case["method"] == "EOE":
            # In float32 as in the official code: at temperature 0.01 their rounding is 3e-6.
            cosines = [images @ other.T for other in (classes, negatives)]
            return eoe_score(*cosines, case["temperature"], case["beta"]).numpy(), None
        size = case["batch_size"]
        batches = [slice(i, i + size) for i in range(0, len(images), size)]
        settings = {n: v for n, v in case.items() if n not in {"name", "method", "batch_size"}}
        if case["method"] == "OODD":
            dictionary = negrefine.OODDictionary(**settings)
            base = a["base_scores"]
            found = [dictionary.update_and_score(images[b], base[b]) for b in batches]
            return np.concatenate(found), None
        stream: negrefine.StreamDetector
        if case["method"] == "AdaNeg":
            stream = negrefine.AdaNeg.from_features(
                classes, negatives, logit_scale=self.scale, **settings
            )
        else:
            candidates = np.concatenate([negatives, a["other_features"]])
            stream = negrefine.TANL.from_features(
                classes,
                candidates,
                logit_scale=self.scale,
                noise_features=a["noise_features"],
                **settings,
            )
        scores, predictions = [], []
        for batch in batches:
            scores.append(stream.update_and_score(images[batch]))
            predictions.append(stream.classify(images[batch]))
        return np.concatenate(scores), np.concatenate(predictions)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    folder = shared / "golden" / "stream"
    if not folder.is_dir():
        pytest.skip("the official outputs of stream methods are not here")
    return Golden(folder)


@pytest.mark.parametrize("method", TOLERANCES)
def test_the_scores_are_those_of_the_official_code(golden: Golden, method: str) -> None:
    cases = [case for case in golden.cases if case["method"] == method]
    assert len(cases) == {"AdaNeg": 12, "TANL": 6, "OODD": 6, "EOE": 3}[method]
    for case in cases:
        name = case["name"]
        scores, predictions = golden.scores(case)
        np.testing.assert_allclose(
            scores, golden.arrays[f"{name}.scores"], rtol=0, atol=TOLERANCES[method], err_msg=name
        )
        wanted = golden.arrays.get(f"{name}.predictions")
        assert (wanted is None) == (predictions is None), name
        if wanted is not None:
            np.testing.assert_array_equal(predictions, wanted, err_msg=name)
