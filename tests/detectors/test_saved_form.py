"""Saved detectors whose checksums are right and whose content makes no sense."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load, save

from negrefine import Detector, load_detector
from negrefine.detectors.loading import load_labels
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError

Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture
def saved(detectors: dict[str, Detector], tmp_path: Path) -> Path:
    detector = detectors["negrefine"].with_params()
    detector.calibrate_scores(np.linspace(1, 2, 40))
    detector.save(tmp_path / "d")
    return tmp_path / "d"


def sealed(path: Path, manifest: dict[str, Any]) -> None:
    manifest.pop("checksum", None)
    text = json.dumps(manifest, sort_keys=True).encode()
    manifest["checksum"] = hashlib.sha256(text).hexdigest()
    (path / "detector.json").write_text(json.dumps(manifest), encoding="utf-8")


def replace_file(path: Path, name: str, edit: Callable[[bytes], bytes]) -> None:
    """Edit a data file and put the right checksums in, as an attacker would."""
    manifest = json.loads((path / "detector.json").read_text(encoding="utf-8"))
    stem, _, suffix = name.rpartition(".")
    (file,) = path.glob(f"{stem}-*.{suffix}")
    data = edit(file.read_bytes())
    digest = hashlib.sha256(data).hexdigest()
    (path / f"{stem}-{digest[:12]}.{suffix}").write_bytes(data)
    manifest["files"][name] = digest
    sealed(path, manifest)


def refused(path: Path, encoder: CLIPEncoder, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        load_detector(path, encoder=encoder)
    message = str(caught.value)
    assert message.startswith(f"The saved detector in {str(path)!r} is damaged (")
    assert message.endswith("): fit and save it again.")
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))


def put(name: str, value: Any) -> Callable[[Arrays], None]:
    def edit(arrays: Arrays) -> None:
        arrays[name] = np.ascontiguousarray(
            value(arrays[name]) if callable(value) else np.asarray(value)
        )

    return edit


def one_number(value: float) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    def edit(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        array = array.copy()
        array.flat[-1] = value
        return array

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put("class_features", one_number(np.nan)), "class_features has rows that are not of leng"),
        (put("class_features", one_number(np.inf)), "class_features has rows that are not of leng"),
        (put("class_features", lambda a: a * np.float32(7)), "are not of length one"),
        (put("class_features", lambda a: a * np.float32(0)), "are not of length one"),
        (put("class_features", lambda a: a.astype(bool)), "must be float32 .* not bool"),
        (put("class_features", lambda a: a.astype(np.float64)), "must be float32 .* not float64"),
        (put("class_features", lambda a: a.view(np.int32)), "must be float32 .* not int32"),
        (put("class_features", lambda a: a.ravel()), "in two dimensions, not float32 in 1"),
        (put("class_features", lambda a: a[:, :3] / 1), "has rows of 3 numbers, not 256"),
        (
            put("class_features", lambda a: a[:1]),
            r"1 rows for \d class names: they differ in number",
        ),
        (put("negative_features", lambda a: a[:, :3] / 1), "has rows of 3 numbers, not 256"),
        (put("negative_features", lambda a: a[1:]), "negative labels: they differ in number"),
        (put("negative_features", one_number(np.nan)), "negative_features has rows that are not"),
        (
            put(
                "mined_features",
                lambda a: np.repeat(a[:1], 50, 0) if a.size else np.eye(1, 256, dtype=np.float32),
            ),
            "cleaned labels: they differ",
        ),
        (put("mined_features", np.eye(3, dtype=np.float64)), "mined_features must be float32"),
        (put("calibration_scores", one_number(np.nan)), "calibration_scores must be finite"),
        (put("calibration_scores", one_number(0.5)), "calibration_scores are not sorted"),
        (put("calibration_scores", np.zeros(0)), "calibration_scores must be .* not empty"),
        (put("calibration_scores", np.zeros((3, 1))), "calibration_scores must be float64 in one"),
        (put("calibration_scores", np.zeros(3, np.float32)), "calibration_scores must be float64"),
        (lambda arrays: arrays.pop("class_features"), "class_features is missing"),
        (lambda arrays: arrays.pop("mined_features"), "mined_features is missing"),
    ],
)
def test_arrays(
    saved: Path, builtin_encoder: CLIPEncoder, edit: Callable[[Arrays], object], said: str
) -> None:
    def edited(data: bytes) -> bytes:
        arrays = load(data)
        edit(arrays)
        return save(arrays)

    replace_file(saved, "features.safetensors", edited)
    refused(saved, builtin_encoder, said)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("offset", "0.5", "detector.json.offset must be a finite number or null, not '0.5'"),
        ("offset", True, "offset must be a finite number or null, not True"),
        ("offset", float("nan"), "detector.json cannot be read: it holds NaN, which is no number"),
        ("offset", float("-inf"), "it holds -Infinity, which is no number"),
        ("offset", [1], "offset must be a finite number"),
        ("offset", 10**4000, "it holds a number of 4001 digits"),
        ("class_names", [], "The class list is empty"),
        ("class_names", ["dog", 3, "cat", "cow"], "Class name 1 is 3, a int: give strings"),
        ("class_names", ["dog", " ", "cat", "cow"], "Class name 1 is blank"),
        ("class_names", ["dog", "\ud800", "cat", "cow"], "half of a character"),
        ("class_names", {"dog": 1}, "class_names must be a list"),
        ("class_names", "dogs", "class_names must be a list"),
        ("method", ["mcm"], "method must be a text"),
        ("encoder.fingerprint", 5, "encoder.fingerprint must be a text"),
        ("encoder.name", None, "encoder.name must be a text"),
        ("encoder.options", [], "encoder.options must be an object"),
        ("encoder.logit_scale", -1, "encoder.logit_scale must be a positive number, not -1"),
        ("encoder.logit_scale", True, "encoder.logit_scale must be a positive number, not True"),
        ("parameters.n_groups", -1, "n_groups must be a whole number of at least 1, not -1"),
        ("parameters.n_groups", 2.5, "n_groups must be a whole number"),
        ("parameters.n_groups", 10**19, "n_groups must be at most 9223372036854775807"),
        ("parameters.group_seed", 2**64, "group_seed must be at most 18446744073709551615"),
        ("parameters.alpha", 10**30, "alpha must be at most 9223372036854775807 in size as a wh"),
        ("parameters.k", True, "k must be a whole number of at least 1, not True"),
        ("parameters.max_pairs", -5, "max_pairs must be a whole number of at least 0, not -5"),
        ("parameters.alpha", "2", "alpha must be a finite number, not '2'"),
        ("parameters.alpha", {"unsaved": "two"}, "alpha must be a finite number"),
        ("parameters.judge", {"unsaved": 3}, "judge.unsaved must be a text"),
        ("parameters.judge", {"other": "x"}, "judge must have the field 'unsaved'"),
        ("parameters.judge", 3, "judge must be 'wordnet', 'none' or an object"),
        ("parameters.top_fraction", 7, "top_fraction must lie in"),
        ("parameters.official", 1, "official must be True or False, not 1"),
        ("parameters.keep", [1], "keep must be a list of strings"),
        ("parameters.prompts", [], "prompts must be an object"),
        ("parameters.prompts", {"class_name": ["no place"]}, "must contain '{}' exactly once"),
        ("parameters.prompts", {"class_name": ["a {}"]}, "the prompts are not those of its param"),
        ("prompts.class_name", ["a {}"], "the prompts are not those of its parameters"),
        ("files.notes", "x", "names a file that no detector has"),
        ("files.notes", {"jsonl": 1}, "names a file that no detector has"),
        ("format_version", True, "has no format version"),
    ],
)
def test_facts(
    saved: Path, builtin_encoder: CLIPEncoder, field: str, value: Any, said: str
) -> None:
    manifest = json.loads((saved / "detector.json").read_text(encoding="utf-8"))
    *folders, last = field.split(".")
    content = manifest
    for folder in folders:
        content = content[folder]
    content[last] = value
    sealed(saved, manifest)
    refused(saved, builtin_encoder, said)


@pytest.mark.parametrize("field", ["offset", "class_names", "parameters", "prompts", "encoder"])
def test_missing_facts(saved: Path, builtin_encoder: CLIPEncoder, field: str) -> None:
    manifest = json.loads((saved / "detector.json").read_text(encoding="utf-8"))
    del manifest[field]
    sealed(saved, manifest)
    refused(saved, builtin_encoder, f"detector.json must have the field '{field}'")


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("negative_labels", {"similarity": "high"}, "'similarity' of a row is 'high'"),
        ("negative_labels", {"similarity": True}, "'similarity' of a row is True"),
        ("negative_labels", {"pinned": 1}, "'pinned' of a row is 1"),
        ("negative_labels", {"word": None}, "'word' of a row is None"),
        ("negative_labels", {"text": ["a"]}, "'text' of a row is"),
        ("negative_labels", {"pos": "verb"}, "the part of speech of a label is 'verb'"),
        ("negative_labels", {"removed_by": "me"}, "'removed_by' of a row is 'me'"),
        ("negative_labels", {"removed_by": {"cause": "mood"}}, "'mood' is not a valid Cause"),
        ("negative_labels", {"removed_by": {}}, "a row has no 'cause'"),
        ("negative_labels", {"other": 1}, "a row has the unknown field 'other'"),
        ("audit", {"yes": "no"}, "'yes' of a row is 'no'"),
        ("audit", {"confidence": [1]}, "'confidence' of a row is"),
        ("audit", {"kind": "mood"}, "the kind of a question is 'mood'"),
        ("audit", {"reason": 5}, "'reason' of a row is 5"),
    ],
)
def test_rows(
    saved: Path, builtin_encoder: CLIPEncoder, name: str, edit: dict[str, Any], said: str
) -> None:
    def edited(data: bytes) -> bytes:
        first, *others = data.splitlines(keepends=True)
        return b"".join([json.dumps(json.loads(first) | edit).encode() + b"\n", *others])

    replace_file(saved, f"{name}.jsonl", edited)
    refused(saved, builtin_encoder, said)
    if name == "negative_labels":
        with pytest.raises(BundleError, match=said):
            load_labels(saved)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello", "Expecting value"),
        (b"\xff", "it is not UTF-8 text"),
        (b"[" * 200_000, "it is nested more than 64 levels deep"),
        (b"[" * 900 + b"]" * 900, "it is nested more than 64 levels deep"),
        (b"5", "a row is 5, not an object"),
        (b'{"word": "a", "word": "b"}', "it holds the key 'word' twice"),
        (b'{"similarity": NaN}', "it holds NaN"),
        (b'{"similarity": 1e999}', "1e999, which is too large"),
    ],
)
def test_lines(saved: Path, builtin_encoder: CLIPEncoder, line: bytes, said: str) -> None:
    replace_file(saved, "negative_labels.jsonl", lambda data: line + b"\n" + data)
    refused(saved, builtin_encoder, said)
    with pytest.raises(BundleError, match=said):
        load_labels(saved)


def test_more_groups_than_labels(detectors: dict[str, Detector]) -> None:
    """The published rule then leaves all labels out; no memory is taken for the groups."""
    images = np.eye(3, 256, dtype=np.float32)
    for detector in (detectors["neglabel"], detectors["csp"]):
        scores = detector.with_params(n_groups=10**18).score_features(images)
        assert scores.tolist() == [1, 1, 1]
        assert (
            scores.tobytes() == detector.with_params(n_groups=900).score_features(images).tobytes()
        )


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), float("-inf")])
def test_a_threshold_that_could_not_be_loaded_is_not_saved(
    detectors: dict[str, Detector], tmp_path: Path, offset: float
) -> None:
    detector = detectors["mcm"].with_params()
    detector.offset_ = offset
    with pytest.raises(BundleError, match=r"cannot be saved: .*offset must be a finite number"):
        detector.save(tmp_path / "d")
    assert not (tmp_path / "d").exists()
