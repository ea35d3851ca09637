"""A hub that runs beside the tests, and a cache of its own for each test."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import huggingface_hub.constants
import pytest
from tests.sharing.fake_hub import TOKEN


@dataclass(frozen=True)
class Hub:
    """The hub as its tests see it."""

    url: str
    cache: Path

    def put(self, repository: str, files: dict[str, bytes]) -> str:
        """Commit files to a public repository, as whoever owns it may do; return the commit."""
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        return str(self._post(f"put/{repository}", encoded)["commit"])

    def files(self, repository: str) -> list[str]:
        """Return the names of the files of the main branch."""
        return sorted(self._post("files", repository))

    def read(self, repository: str, name: str) -> bytes:
        """Return the content of a file of the main branch."""
        return base64.b64decode(self._post("files", repository)[name])

    def behave(self, **how: Any) -> None:
        self._post("behave", how)

    def requests(self) -> list[str]:
        with urlopen(f"{self.url}/test/log") as answer:  # noqa: S310
            return list(json.load(answer))

    def _post(self, path: str, content: Any) -> Any:
        request = Request(f"{self.url}/test/{path}", json.dumps(content).encode())  # noqa: S310
        with urlopen(request) as answer:  # noqa: S310
            return json.load(answer)


@pytest.fixture(scope="session")
def hub_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a hub in a process of its own."""
    file = tmp_path_factory.mktemp("hub") / "address"
    script = Path(__file__).with_name("fake_hub.py")
    process = subprocess.Popen([sys.executable, "-S", str(script), str(file)])
    try:
        deadline = time.monotonic() + 30
        while not file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield file.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def hub(hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, with a token that may write and an empty cache."""
    cache = tmp_path / "hub-cache"
    monkeypatch.setenv("HF_ENDPOINT", hub_url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # huggingface_hub reads the environment when it is imported.
    settings = {
        "ENDPOINT": hub_url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub_url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    made = Hub(hub_url, cache)
    yield made
    made.behave()
