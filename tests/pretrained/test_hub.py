"""Models on the hub: what is downloaded, and one sentence for each way in which that fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from negrefine.errors import EncoderError, InputError
from negrefine.pretrained import hub

KINDS = {
    EncoderError: hub.ModelKind(
        "CLIPModel", "a/clip", "builtin", "repair it", ("*.json",), EncoderError
    ),
    InputError: hub.ModelKind(
        "language model", "a/chat", "", "repair it", ("*.json", "*.jinja"), InputError
    ),
}


@pytest.mark.parametrize("error_class", KINDS)
@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (errors.HFValidationError, ["neither a directory nor a hub id", "hub id such as 'a/c"]),
        (errors.GatedRepoError, ["is gated", "hf auth login"]),
        (errors.RepositoryNotFoundError, ["no public model", "check the spelling"]),
        (errors.RevisionNotFoundError, ["no revision 'v2' of 'org/name'"]),
        (errors.EntryNotFoundError, ["no revision 'v2' of 'org/name'"]),
        (errors.LocalEntryNotFoundError, ["cannot be reached", "HF_HOME"]),
        (ConnectionError, ["cannot be reached", "HF_HOME"]),
    ],
)
def test_failed_downloads(
    error_class: type[Exception],
    cause: type[Exception],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **options: Any) -> str:
        # Some of these classes cannot be made without a response of the server.
        raise cause.__new__(cause)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(error_class) as caught:
        hub.find_directory(KINDS[error_class], "org/name", "v2")  # type: ignore[index]
    message = str(caught.value)
    assert all(word in message for word in [*words, "'org/name'"])
    assert ("'builtin-photo'" in message) <= (error_class is EncoderError)
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize("status", ["open", "draft", "closed", None])
def test_only_pickled_weights_come_from_the_conversion_of_the_hub(
    status: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[tuple[str | None, list[str]]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert name == "org/name"
        downloads.append((revision, allow_patterns))
        directory = tmp_path / str(revision)
        directory.mkdir(exist_ok=True)
        if revision == "pr7":
            (directory / "model.safetensors").touch()
        return str(directory)

    def discussions(self: object, name: str, **options: str) -> list[SimpleNamespace]:
        if status is None:
            raise ConnectionError
        assert options["author"] == "SFconvertbot"
        return [SimpleNamespace(status=status, git_reference="pr7")]

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.get_repo_discussions", discussions)
    kind = KINDS[InputError]
    converted = status in ("open", "draft")
    found = hub.find_directory(kind, "org/name", None)
    assert found == tmp_path / ("pr7" if converted else "None")
    patterns = ["*.json", "*.jinja", "*.safetensors"]
    assert downloads == [(None, patterns), ("pr7", patterns)][: 1 + converted]

    downloads.clear()
    assert hub.find_directory(kind, "org/name", "main") == tmp_path / "main"
    hub.find_directory(kind, "org/name", None, weights=False)
    assert downloads == [("main", patterns), (None, patterns[:2])]


def test_local_directories_need_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    kind = KINDS[EncoderError]
    assert hub.find_directory(kind, str(tmp_path), None) == tmp_path.resolve()
    (tmp_path / "file").touch()
    for name in (tmp_path / "missing", tmp_path / "file", "~/no such directory", "./none", "a/b/c"):
        with pytest.raises(
            EncoderError, match=r"is not a directory: give the directory of a CLIPM"
        ):
            hub.find_directory(kind, str(name), None)
