"""Detectors on a hub: pushing, loading, what is refused, and what is never shown."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from tests.sharing.conftest import Hub
from tests.sharing.fake_hub import READ_TOKEN, TOKEN

from negrefine import MCM, Detector, load_detector
from negrefine.detectors.bundle import stored_files
from negrefine.detectors.hub import local_bundle, pinned, push_detector
from negrefine.detectors.loading import load_labels, load_proposals
from negrefine.errors import BundleError

# Of huggingface_hub's own uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
COMMIT = re.compile(r"hf://ann/[a-z-]+@[0-9a-f]{40}")


@pytest.fixture(scope="module")
def small(detectors: dict[str, Detector], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small detector; do not change it."""
    folder = tmp_path_factory.mktemp("small") / "detector"
    detectors["mcm"].save(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_pushed_detector_scores_the_same(
    hub: Hub, detectors: dict[str, Detector], demo_pictures: list[Path]
) -> None:
    detector = detectors["negrefine"]
    with pytest.warns(UserWarning, match="names paths of this machine") as caught:
        address = detector.push_to_hub("ann/same")
    assert "small.tsv" in str(caught[0].message)
    assert COMMIT.fullmatch(address)
    for each in (address, "hf://ann/same", "hf://ann/same@main"):
        assert load_detector(each).identity() == detector.identity()
    assert load_labels(address) is not None
    assert load_proposals(address) == []
    scores = load_detector(Path(address)).score_samples(demo_pictures[:3])
    np.testing.assert_array_equal(scores, detector.score_samples(demo_pictures[:3]))
    assert pinned("hf://ann/same") == address
    asked = hub.requests()
    assert any(line.startswith("GET /objects/") for line in asked)
    assert not any("LEAK" in line for line in asked)


def test_one_commit_replaces_a_detector_and_pinned_addresses_stay(
    hub: Hub, small: Path, detectors: dict[str, Detector]
) -> None:
    first = push_detector(small, "hf://ann/twice")
    hub.put("ann/twice", {**files_of(local_bundle(first)), "LICENSE": b"MIT", "README.md": b""})
    with pytest.warns(UserWarning, match="small.tsv"):
        second = push_detector(detectors["neglabel"], "ann/twice", replace_card=True)
    assert load_detector(first).method == "mcm"
    assert load_detector("hf://ann/twice").method == "neglabel"
    kept = set(hub.files("ann/twice"))
    assert kept == {
        *stored_files(local_bundle(second)),
        *("detector.json", "README.md", "LICENSE"),
    }
    commits = [line for line in hub.requests() if "/api/models/ann/twice/commit/" in line]
    assert len(commits) == 2


def test_what_is_cached_needs_no_hub(
    hub: Hub, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = push_detector(small, "ann/cached")
    load_detector("hf://ann/cached")
    asked = len(hub.requests())
    load_detector(address)
    assert len(hub.requests()) == asked
    # Nobody listens there.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    load_detector(address)
    with pytest.warns(UserWarning, match=f"does not answer.*{address.partition('@')[2]}"):
        load_detector("hf://ann/cached")
    with pytest.raises(BundleError, match="'hf://ann/absent' cannot be read, because the hub"):
        load_detector("hf://ann/absent")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    load_detector(address)
    with pytest.raises(BundleError, match="HF_HUB_OFFLINE is set"):
        load_detector("hf://ann/absent")
    hub.cache.rename(hub.cache.with_name("gone"))
    with pytest.raises(BundleError, match="HF_HUB_OFFLINE"):
        load_detector(address)


@pytest.mark.filterwarnings("ignore::UserWarning:huggingface_hub")
def test_a_download_that_ends_early_is_no_detector_and_is_finished_later(
    hub: Hub, detectors: dict[str, Detector]
) -> None:
    with pytest.warns(UserWarning, match="small.tsv"):
        address = detectors["neglabel"].push_to_hub("ann/early")
    hub.behave(ends_early=20_000)
    with pytest.raises(BundleError, match="cannot be read"):
        load_detector(address)
    assert not list(hub.cache.glob("models--*/snapshots/*/features-*"))
    hub.behave()
    assert load_detector(address).identity() == detectors["neglabel"].identity()


def test_only_files_of_the_detector_are_downloaded(hub: Hub, small: Path) -> None:
    extra = {"evil.py": b"raise SystemExit", "pytorch_model.bin": b"cos\nsystem\n", "x.pkl": b"x"}
    commit = hub.put("eve/extra", {**files_of(small), **extra})
    directory = local_bundle("hf://eve/extra")
    assert directory.name == commit
    assert {file.name for file in directory.iterdir()} == set(files_of(small))
    asked = " ".join(hub.requests())
    assert not any(name in asked for name in extra)


def tampered(small: Path, change: Callable[[dict[str, object]], None]) -> dict[str, bytes]:
    """Return the files of a detector with another detector.json, its checksum put right."""
    import hashlib

    files = files_of(small)
    manifest = json.loads(files["detector.json"])
    del manifest["checksum"]
    change(manifest)
    text = json.dumps(manifest, sort_keys=True).encode()
    manifest["checksum"] = hashlib.sha256(text).hexdigest()
    files["detector.json"] = json.dumps(manifest).encode()
    return files


def test_a_detector_from_the_hub_is_as_untrusted_as_any(hub: Hub, small: Path) -> None:
    files = files_of(small)
    features = next(name for name in files if name.startswith("features-"))

    def outside(manifest: dict[str, object]) -> None:
        manifest["files"] = {"../features.safetensors": "0" * 64}

    def many(manifest: dict[str, object]) -> None:
        manifest["files"] = {f"{'a' * n}.jsonl": "0" * 64 for n in range(1, 40)}

    def path(manifest: dict[str, object]) -> None:
        encoder = manifest["encoder"]
        assert isinstance(encoder, dict)
        encoder["name"] = "/home/eve/model"

    cases = {
        "none": ({"config.json": b"{}"}, "holds no saved detector"),
        "flipped": ({**files, features: files[features][:-1] + b"?"}, "was changed after it"),
        "lost": ({"detector.json": files["detector.json"]}, f"{features} is missing"),
        "edited": ({**files, "detector.json": b"{}"}, "does not describe a detector"),
        "outside": (tampered(small, outside), "names a file outside the directory"),
        "many": (tampered(small, many), "names 39 files"),
        "huge": ({**files, "detector.json": b" " * (16 << 20) + b"{}"}, "16,777,218 bytes"),
        "path": (tampered(small, path), "names its encoder by a path"),
    }
    for name, (content, words) in cases.items():
        hub.put(f"eve/{name}", content)
        with pytest.raises(BundleError, match=words) as caught:
            load_detector(f"hf://eve/{name}")
        assert f"'hf://eve/{name}" in str(caught.value)
        assert "fit and save it again" not in str(caught.value)
    # With an encoder of the caller's own nothing is opened that the detector names.
    with pytest.raises(BundleError, match="holds no saved"):
        load_detector("hf://eve/none", "builtin")
    assert load_detector("hf://eve/path", "builtin").method == "mcm"


def test_what_is_advised_about_a_damaged_copy_helps(hub: Hub, small: Path) -> None:
    address = push_detector(small, "ann/copy")
    (file,) = local_bundle(address).glob("features-*")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    # The file in the folder of the commit is a link.
    file.resolve().write_bytes(content)
    with pytest.raises(BundleError, match=r"if only this copy is, remove '(.*)'\.") as caught:
        load_detector(address)
    (folder,) = re.findall("remove '(.*)'", str(caught.value))
    assert Path(folder).parent == hub.cache
    shutil.rmtree(folder)
    assert load_detector(address).method == "mcm"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://ann", "no repository on the hub"),
        ("hf://ann/a/b", "no repository on the hub"),
        ("hf://../x", "no repository on the hub"),
        ("hf://ann/..", "no repository on the hub"),
        ("hf://datasets/ann/x", "address of datasets"),
        ("hf://ann/x@", "no usable revision"),
        ("hf://ann/x@../../y", "no usable revision"),
        ("hf://ann/x@a b", "no usable revision"),
    ],
)
def test_addresses(address: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        load_detector(address)


def test_unknown_repositories_and_revisions(hub: Hub, small: Path) -> None:
    push_detector(small, "ann/known", private=False)
    with pytest.raises(BundleError, match="no repository 'ann/unknown' that you may see"):
        load_detector("hf://ann/unknown")
    with pytest.raises(BundleError, match="'ann/known' has no revision 'v9'"):
        load_detector("hf://ann/known@v9")


def test_who_may_read_and_write(hub: Hub, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_detector(small, "ann/private")
    push_detector(small, "ann/public", private=False)
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    load_detector("hf://ann/private")
    with pytest.raises(BundleError, match=r"does not permit it.*write access") as caught:
        push_detector(small, "bob/new")
    assert "rights with ***" in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    load_detector("hf://ann/public")
    with pytest.raises(BundleError, match="no repository 'ann/private' that you may see"):
        load_detector("hf://ann/private@main")
    with pytest.raises(BundleError, match=r"no valid token.*hf auth login"):
        push_detector(small, "bob/new")
    assert push_detector(small, "ann/with-token", token=TOKEN)


@pytest.mark.parametrize("status", [400, 403, 500])
def test_tokens_are_not_shown(hub: Hub, small: Path, status: int) -> None:
    hub.behave(status=status)
    for call in (
        lambda: load_detector("hf://ann/x"),
        lambda: push_detector(small, "ann/x"),
        lambda: push_detector(small, "ann/x", token=READ_TOKEN),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(BundleError) as error:
                call()
        said = f"{error.value} {[str(each.message) for each in caught]}"
        assert f"{status}" in said or status == 403
        assert "Not now, Bearer ***" in said
        assert not any(token[3:] in said for token in (TOKEN, READ_TOKEN))


def test_nothing_of_others_is_replaced(hub: Hub, small: Path) -> None:
    hub.put("ann/model", {"config.json": b"{}", "README.md": b"# A model"})
    with pytest.raises(BundleError, match=r"holds something else \('config.json'\)"):
        push_detector(small, "ann/model")
    assert hub.files("ann/model") == ["README.md", "config.json"]
    # A card that somebody has written stays, with a warning; one that nobody has edited does not.
    push_detector(small, "ann/carded")
    written = hub.read("ann/carded", "README.md")
    push_detector(small, "ann/carded", licence="cc-by-4.0")
    generated = hub.read("ann/carded", "README.md")
    assert b"license: cc-by-4.0\n" in generated
    assert b"license" not in written.partition(b"\n---\n")[0]
    content = files_of(small)
    hub.put("ann/carded", {**content, "README.md": generated + b"\nMine.\n"})
    with pytest.warns(UserWarning, match="edited by hand, so it was kept"):
        push_detector(small, "ann/carded", message="again")
    assert hub.read("ann/carded", "README.md").endswith(b"\nMine.\n")
    push_detector(small, "ann/carded", replace_card=True)
    assert hub.read("ann/carded", "README.md") == written


def test_what_is_wrong_about_a_push(hub: Hub, small: Path, tmp_path: Path) -> None:
    for repository, options, words in (
        ("ann", {}, "no repository on the hub"),
        ("ann/x@v1", {}, "as `revision`"),
        ("ann/x", {"licence": "my: own\nlicence"}, "no identifier of a licence"),
        ("ann/x", {"licence": 5}, "5 is no identifier of a licence"),
        ("ann/x", {"token": ""}, "The token is no text without spaces"),
        ("ann/x", {"token": f"{TOKEN}\n"}, "The token is no text without spaces"),
        ("ann/none", {"revision": "dev"}, "a new one has no branch 'dev'"),
        ("ann/none", {"revision": "dev"}, "There is no repository 'hf://ann/none'"),
    ):
        with pytest.raises(BundleError, match=words):
            push_detector(small, repository, **options)  # type: ignore[arg-type]
    assert push_detector(small, "ann/none", revision="main")
    with pytest.raises(BundleError, match="5 is no detector"):
        push_detector(5, "ann/x")  # type: ignore[arg-type]
    broken = tmp_path / "broken"
    shutil.copytree(small, broken)
    next(broken.glob("features-*")).write_bytes(b"")
    before = len(hub.requests())
    with pytest.raises(BundleError, match="truncated"):
        push_detector(broken, "ann/broken")
    assert len(hub.requests()) == before


def test_a_path_of_this_machine_is_said_before_it_is_public(
    hub: Hub, builtin_dir: Path, detectors: dict[str, Detector]
) -> None:
    from negrefine import load_encoder

    encoder = load_encoder(builtin_dir, device="cpu", cache=False)
    detector = MCM(encoder).fit(["cat", "dog"])
    with pytest.warns(UserWarning, match=r"names paths of this machine.*Others must give"):
        address = detector.push_to_hub("ann/path")
    with pytest.raises(BundleError, match="give the same model as encoder"):
        load_detector(address)
    assert load_detector(address, builtin_dir).class_names_ == ["cat", "dog"]
