"""Saved detectors: what comes back is what was saved, and damage of any kind is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.base import clone

from conftest import CLASS_NAMES, LetterJudge
from negrefine import (
    CSP,
    MCM,
    Detector,
    Lexicon,
    NegLabel,
    NegRefine,
    Prompts,
    load_detector,
    load_encoder,
)
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, EncoderError, InputError, NegrefineError

METHODS = ["mcm", "neglabel", "csp", "negrefine"]


@pytest.fixture(scope="module")
def features(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> npt.NDArray[np.float32]:
    return builtin_encoder.encode_images(demo_pictures)


@pytest.fixture
def saved(detectors: dict[str, Detector], tmp_path: Path) -> Path:
    path = tmp_path / "parent" / "detector"
    detectors["negrefine"].save(path)
    return path


def table(path: Path, name: str) -> list[dict[str, Any]]:
    (file,) = path.glob(f"{name}-*.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("method", METHODS)
def test_round_trip(
    method: str,
    detectors: dict[str, Detector],
    builtin_encoder: CLIPEncoder,
    features: npt.NDArray[np.float32],
    tmp_path: Path,
) -> None:
    detector = detectors[method]
    detector.save(tmp_path / "d")
    for loaded in (
        load_detector(tmp_path / "d", encoder=builtin_encoder),
        load_detector(str(tmp_path / "d"), device="cpu"),
    ):
        assert type(loaded) is type(detector)
        assert (loaded.score_features(features) == detector.score_features(features)).all()
        assert loaded.class_names_ == detector.class_names_
        assert loaded.offset_ is None
        assert loaded.prompts_ == detector.prompts_
        assert loaded.identity() == detector.identity()
        if isinstance(detector, NegLabel):
            assert isinstance(loaded, NegLabel)
            assert loaded.negative_labels_ == detector.negative_labels_
            assert (loaded.negative_features_ == detector.negative_features_).all()
        if isinstance(detector, NegRefine):
            assert isinstance(loaded, NegRefine)
            assert loaded.audit_ == detector.audit_
            fresh = detector.explain_features(features[:2])
            assert loaded.explain_features(features[:2]) == fresh


def test_round_trip_of_parameters(
    builtin_encoder: CLIPEncoder,
    small_lexicon: Lexicon,
    features: npt.NDArray[np.float32],
    tmp_path: Path,
) -> None:
    prompts = Prompts(class_name=("my {}", "a “{}”"), noun=("{}",), adjective=("{} 🦊",))
    given: dict[str, Any] = {
        "prompts": prompts,
        "superclasses": ("{} thing", "{} place"),
        "alpha": np.float32(0.5),
        "k": np.int64(2),
        "n_groups": np.int32(3),
        "top_fraction": np.float64(0.6),
        "quantile": 0.9,
        "similarity_cap": None,
        "exclude_class_names": "casefold",
        "keep": {"oak", "Einstein"},
        "drop": frozenset(["copper"]),
        "filters": ["proper_noun"],
        "lexicon_files": np.array(["noun.plant", "noun.person", "noun.substance", "adj.all"]),
        "n_candidates": 2,
        "seed": np.int16(5),
        "group_seed": np.int64(7),
        "logit_scale": 30,
        "official": np.False_,
        "max_pairs": 10,
    }
    detector = NegRefine(builtin_encoder, lexicon=small_lexicon, judge=LetterJudge(), **given)
    with pytest.warns(UserWarning, match="1 of 2 words to keep are no mined labels.*'Einstein'"):
        detector.fit(["naïve", "\u2018quoted\u2019 \n name", "漢字"])
    detector.offset_ = np.float32(0.25)  # type: ignore[assignment]
    detector.save(tmp_path / "d")
    loaded = load_detector(tmp_path / "d", encoder=builtin_encoder)
    assert isinstance(loaded, NegRefine)
    assert (loaded.score_features(features) == detector.score_features(features)).all()
    assert loaded.class_names_ == detector.class_names_
    assert loaded.offset_ == 0.25
    assert loaded.negative_labels_ == detector.negative_labels_
    assert loaded.audit_ == detector.audit_
    params = loaded.get_params(deep=False)
    for name, value in given.items():
        if name in {"keep", "drop"}:
            assert set(params[name]) == set(value)
        elif name in {"superclasses", "filters", "lexicon_files"}:
            assert list(params[name]) == list(value)
        else:
            assert params[name] == value
    # What cannot be saved is named, and asked for before fitting again.
    with pytest.raises(InputError, match=r"lexicon .*small\.tsv' is not part of the saved"):
        loaded.fit(CLASS_NAMES)
    loaded.set_params(lexicon=small_lexicon)
    with pytest.raises(InputError, match=r"judge 'letters' is not part of the saved detector"):
        loaded.fit(CLASS_NAMES)
    loaded.set_params(judge="none").fit(CLASS_NAMES)
    # A detector that was loaded is saved and loaded like any other.
    loaded.save(tmp_path / "again")
    again = load_detector(tmp_path / "again", encoder=builtin_encoder)
    assert again.identity() == loaded.identity()


def test_files_are_open_formats(saved: Path, detectors: dict[str, Detector]) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    manifest = json.loads((saved / "detector.json").read_text(encoding="utf-8"))
    assert manifest["format"] == "negrefine-detector"
    assert manifest["format_version"] == 2
    assert manifest["method"] == "negrefine"
    assert manifest["class_names"] == CLASS_NAMES
    assert manifest["parameters"]["alpha"] == 2.0
    assert manifest["encoder"]["name"] == "builtin"
    (arrays,) = saved.glob("features-*.safetensors")
    assert (load_file(arrays)["class_features"] == detector.class_features_).all()
    labels = table(saved, "negative_labels")
    assert [row["text"] for row in labels] == [label.text for label in detector.negative_labels_]
    assert [row["yes"] for row in table(saved, "audit")] == [line.yes for line in detector.audit_]
    assert len(list(saved.iterdir())) == 4
    umask = os.umask(0)
    os.umask(umask)
    assert {file.stat().st_mode & 0o777 for file in saved.iterdir()} == {0o666 & ~umask}


# ------------------------------------------------------------------------------------ damage


def reseal(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit detector.json and put the right checksum in, as an attacker would."""
    file = path / "detector.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    del manifest["checksum"]
    edit(manifest)
    text = json.dumps(manifest, sort_keys=True).encode()
    manifest["checksum"] = hashlib.sha256(text).hexdigest()
    file.write_text(json.dumps(manifest), encoding="utf-8")


def refused(path: Path, encoder: CLIPEncoder | None, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        load_detector(path, encoder=encoder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert str(path) in message


@pytest.mark.parametrize("name", ["detector.json", "features-*", "negative_labels-*", "audit-*"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "flipped", "folder"])
def test_damaged_files(saved: Path, builtin_encoder: CLIPEncoder, name: str, damage: str) -> None:
    (file,) = saved.glob(name)
    data = file.read_bytes()
    middle = len(data) // 2
    file.unlink()
    if damage == "emptied":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(data[:middle])
    elif damage == "flipped":
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "folder":
        file.mkdir()
    said = r"holds no saved detector \(detector.json is missing\)"
    if (name, damage) != ("detector.json", "removed"):
        said = "is damaged .*: fit and save it again"
    refused(saved, builtin_encoder, said)


def test_every_byte_counts(saved: Path, builtin_encoder: CLIPEncoder) -> None:
    """One flipped bit anywhere is noticed, unless JSON reads the same, as for 1e5 and 1E5."""
    rng = np.random.default_rng(0)
    for file in saved.iterdir():
        data = file.read_bytes()
        for place in rng.integers(0, len(data), 30).tolist():
            flipped = bytes([data[place] ^ 1 << rng.integers(8)])
            file.write_bytes(data[:place] + flipped + data[place + 1 :])
            refused(saved, builtin_encoder, r"is damaged \(.*\): fit and save it again\.$")
        file.write_bytes(data)
    load_detector(saved, encoder=builtin_encoder)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_no_other_format(
    saved: Path, builtin_encoder: CLIPEncoder, bit: int
) -> None:
    file = saved / "detector.json"
    before, mark, after = file.read_bytes().partition(b'"format_version": ')
    file.write_bytes(before + mark + bytes([after[0] ^ 1 << bit]) + after[1:])
    refused(saved, builtin_encoder, r"is damaged \(.*\): fit and save it again\.$")


def test_an_edited_manifest(saved: Path, builtin_encoder: CLIPEncoder) -> None:
    file = saved / "detector.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"alpha": 2.0', '"alpha": 3.0'), encoding="utf-8")
    refused(saved, builtin_encoder, "detector.json was changed after it was written")
    # White space is nobody's business.
    file.write_text(json.dumps(json.loads(text)), encoding="utf-8")
    load_detector(saved, encoder=builtin_encoder)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            {"format_version": 4, "negrefine_version": "9.1"},
            r"by negrefine 9\.1 in format 4.*upgrade",
        ),
        ({"format_version": 1}, r"in format 1 by an older version of negrefine: fit it again"),
        ({"format_version": "1"}, "no format version"),
        ({"format": "something"}, "does not describe a detector"),
        ({"method": "magic"}, r"of the method 'magic', which this .* register its class"),
        ({"class_names": ["dog"]}, "differ in number"),
        ({"class_names": 5}, "parts do not fit together"),
        ({"parameters": {"no_such": 1}}, "parts do not fit together"),
        ({"parameters": []}, "damaged"),
        ({"files": {}}, "features.safetensors cannot be read"),
        ({"files": ["features.safetensors"]}, "names no files"),
        ({"encoder": None}, "damaged"),
        ({"encoder": {"name": 3}}, "damaged"),
    ],
)
def test_a_manifest_with_a_right_checksum_and_wrong_content(
    saved: Path, builtin_encoder: CLIPEncoder, edit: dict[str, Any], said: str
) -> None:
    reseal(saved, lambda manifest: manifest.update(edit))
    refused(saved, builtin_encoder, said)


@pytest.mark.parametrize("name", ["../secret.jsonl", "/etc/passwd.jsonl", "a/../../secret.jsonl"])
def test_files_outside_are_not_read(saved: Path, builtin_encoder: CLIPEncoder, name: str) -> None:
    data = b'{"a": 1}\n'
    digest = hashlib.sha256(data).hexdigest()
    (saved.parent / f"secret-{digest[:12]}.jsonl").write_bytes(data)
    reseal(saved, lambda manifest: manifest["files"].update({name: digest}))
    refused(saved, builtin_encoder, "names a file outside the directory")


@pytest.mark.parametrize("content", [b"[1]", b"\xff\xfe", b"{", b"null", b""])
def test_things_that_are_no_detector(
    builtin_encoder: CLIPEncoder, tmp_path: Path, content: bytes
) -> None:
    refused(tmp_path / "nothing", builtin_encoder, "holds no saved detector")
    (tmp_path / "file").write_text("text")
    refused(tmp_path / "file", builtin_encoder, "holds no saved detector")
    (tmp_path / "d").mkdir()
    refused(tmp_path / "d", builtin_encoder, "holds no saved detector")
    (tmp_path / "d" / "detector.json").write_bytes(content)
    refused(tmp_path / "d", builtin_encoder, "damaged")


# ----------------------------------------------------------------------------------- encoder


def test_another_encoder(saved: Path, builtin_encoder: CLIPEncoder) -> None:
    other = load_encoder("builtin", resample="bilinear", device="cpu")
    refused(saved, other, "was fitted with the encoder 'builtin' .fingerprint")


def test_an_encoder_that_moved(
    builtin_dir: Path, features: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    first = tmp_path / "first"
    shutil.copytree(builtin_dir, first)
    encoder = load_encoder(
        first, resample="bilinear", background=(255, 255, 255), exif_orientation=False
    )
    detector = MCM(encoder).fit(CLASS_NAMES)
    detector.save(tmp_path / "d")
    expected = detector.score_features(features)
    assert (load_detector(tmp_path / "d").score_features(features) == expected).all()
    first.rename(tmp_path / "second")
    with pytest.raises(EncoderError, match=r"cannot be loaded again; name the model .* as encoder"):
        load_detector(tmp_path / "d")
    # The saved options are used for the model that is named.
    for name in (tmp_path / "second", str(tmp_path / "second")):
        loaded = load_detector(tmp_path / "d", encoder=name)
        assert (loaded.score_features(features) == expected).all()
        assert isinstance(loaded.encoder, CLIPEncoder)
        assert loaded.encoder.background == (255, 255, 255)


def test_the_background_is_kept(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    scores = {}
    for background in ((255, 255, 255), None):
        detector = MCM(load_encoder("builtin", background=background, cache=False))
        detector.fit(CLASS_NAMES).save(tmp_path / str(background))
        scores[background] = detector.score_samples([clear])
        loaded = load_detector(tmp_path / str(background))
        assert isinstance(loaded.encoder, CLIPEncoder)
        assert loaded.encoder.background == background
        assert loaded.score_samples([clear]) == scores[background]
    assert scores[None] != scores[255, 255, 255]
    # Detectors that were saved when None was the default have no such option, and keep to it.
    manifest = json.loads((tmp_path / "None" / "detector.json").read_text())
    assert "background" not in manifest["encoder"]["options"]
    refused(
        tmp_path / "None",
        load_encoder("builtin", cache=False),
        "give the same model loaded with background=None, or fit again",
    )


# ------------------------------------------------------------------------------------ saving


def test_what_is_not_a_detector_is_not_replaced(
    detectors: dict[str, Detector], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    namesake = tmp_path / "namesake"
    namesake.mkdir()
    (namesake / "detector.json").write_text('{"for": "another program"}')
    for target in (file, foreign, namesake):
        with pytest.raises(BundleError, match="exists and is not a saved detector: choose another"):
            detectors["mcm"].save(target)
    with pytest.raises(BundleError, match=r"cannot be written to .*: Not a directory"):
        detectors["mcm"].save(file / "below")
    assert file.read_text() == "mine"
    assert (foreign / "notes.txt").read_text() == "mine"
    assert len(list(namesake.iterdir())) == 1
    (tmp_path / "empty").mkdir()
    detectors["mcm"].save(tmp_path / "empty")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_may_not_be_written(detectors: dict[str, Detector], tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o500)
    with pytest.raises(BundleError, match="cannot be written to"):
        detectors["mcm"].save(parent / "d")


def test_replacing_a_detector(
    detectors: dict[str, Detector], saved: Path, builtin_encoder: CLIPEncoder
) -> None:
    (saved / "scores.csv").write_text("mine")
    for method in (*METHODS, "mcm", "mcm"):
        detectors[method].save(saved)
        loaded = load_detector(saved, encoder=builtin_encoder)
        assert loaded.identity() == detectors[method].identity()
    assert (saved / "scores.csv").read_text() == "mine"
    names = sorted(file.name.partition("-")[0] for file in saved.iterdir())
    assert names == ["detector.json", "features", "scores.csv"]
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
    # Damage does not keep a detector from being saved again.
    text = (saved / "detector.json").read_text(encoding="utf-8")
    (saved / "detector.json").write_text(text[:100], encoding="utf-8")
    detectors["csp"].save(saved)
    assert load_detector(saved, encoder=builtin_encoder).method == "csp"


@pytest.mark.parametrize(
    ("options", "said"),
    [({"dtype": "float8"}, "dtype must be"), ({"device": "toaster"}, "The device 'toaster'")],
)
def test_wrong_options_for_the_saved_encoder(
    saved: Path, options: dict[str, str], said: str
) -> None:
    with pytest.raises(EncoderError, match=f"^{said}"):
        load_detector(saved, **options)


SAVE_AND_DIE = """
import os, random, signal, sys, time
from negrefine import CSP, Lexicon, load_detector, load_encoder

path, lexicon = sys.argv[1:]
encoder = load_encoder("builtin", device="cpu")
options = {"lexicon": Lexicon.from_tsv(lexicon), "lexicon_files": "full", "n_groups": 2}
fitted = [
    CSP(encoder, top_fraction=fraction, **options).fit(["dog", "cat"][:n])
    for n, fraction in ((1, 0.5), (2, 0.8))
]
identities = {detector.identity() for detector in fitted}
rng = random.Random(1)
seen = set()
for kill in range(300):
    if kill == 8:
        fitted[0].save(path)
    child = os.fork()
    if child == 0:
        while True:
            for detector in fitted:
                detector.save(path)
    # The first ones die while the directory comes into being.
    time.sleep(rng.random() * (0.004 if kill < 8 else 0.05 * (1 + kill // 30)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if kill >= 8 or os.path.exists(os.path.join(path, "detector.json")):
        seen.add(load_detector(path, encoder=encoder).identity())
    # On a busy machine it takes more of them, and longer ones, until the second is saved.
    if kill >= 30 and seen == identities:
        break
assert seen == identities, (seen, identities)
fitted[0].save(path)
print(sorted(os.listdir(path)), len(os.listdir(os.path.dirname(path))))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_process_killed_while_saving_leaves_a_whole_detector(
    tmp_path: Path, lexicon_file: Path
) -> None:
    path = tmp_path / "parent" / "d"
    path.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SAVE_AND_DIE, str(path), str(lexicon_file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Nothing of the killed processes is left, in the directory or beside it.
    assert done.stdout.count("-") == 2
    assert ".tmp" not in done.stdout
    assert done.stdout.split()[-1] == "1"


# ------------------------------------------------------------------------------ scikit-learn


def test_scikit_learn_tools(
    detectors: dict[str, Detector],
    builtin_encoder: CLIPEncoder,
    features: npt.NDArray[np.float32],
) -> None:
    for detector in detectors.values():
        copy = clone(detector)
        assert type(copy) is type(detector)
        assert copy.encoder is builtin_encoder
        assert not hasattr(copy, "class_names_")
        assert set(copy.get_params()) == set(detector.get_params())
        assert repr(copy)
    detector = clone(detectors["csp"])
    assert isinstance(detector, CSP)
    assert detector.set_params(n_groups=2, quantile=1.0) is detector
    assert detector.get_params()["n_groups"] == 2
    with pytest.raises(ValueError, match="Invalid parameter"):
        detector.set_params(no_such=1)
    scores = detector.fit(CLASS_NAMES).score_features(features)
    twin = clone(detectors["csp"]).set_params(n_groups=2, quantile=1.0).fit(CLASS_NAMES)
    assert (twin.score_features(features) == scores).all()


def test_all_errors_have_one_base() -> None:
    for error in (BundleError, EncoderError, InputError):
        assert issubclass(error, NegrefineError)
