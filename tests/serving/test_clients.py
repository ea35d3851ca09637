"""The examples of docs/clients.md, each run against a server."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from negrefine import Detector
from negrefine.benchmarks.bundled import demo_images
from serving.conftest import TOKEN
from serving.processes import FORM, Server, Zygote, form
from serving.test_limits import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
BASH = [code for kind, code in BLOCKS if kind == "bash"]
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
ADDRESS = "http://127.0.0.1:8000"
Hosted = tuple[Path, dict[str, Detector]]


@pytest.fixture(scope="module")
def guarded(zygote: Zygote, hosted: Hosted) -> Iterator[Server]:
    """A server with a token."""
    server = zygote.start(hosted[0] / "refined", NEGREFINE_TOKEN=TOKEN)
    server.wait_until_ready()
    server.headers = {"Authorization": f"Bearer {TOKEN}"}
    yield server
    server.signal(15)
    assert server.wait() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the page speaks of."""
    for image in demo_images():
        if image.path.stem in {"cat", "bagel"}:
            shutil.copy(image.path, tmp_path / image.path.name)
    return tmp_path


def run(
    code: str, server: Server, folder: Path, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    """Run an example, with the address of the server for the one on the page."""
    kind = "python" if "import " in code else "bash"
    assert ADDRESS in code
    command = [sys.executable, "-c"] if kind == "python" else ["bash", "-euo", "pipefail", "-c"]
    return subprocess.run(
        [*command, code.replace(ADDRESS, server.url.rstrip("/"))],
        cwd=folder,
        env={**os.environ, "NEGREFINE_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_blocks_are_known() -> None:
    assert [kind for kind, _ in BLOCKS] == ["bash"] * 5 + ["python"] * 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl(guarded: Server, hosted: Hosted, folder: Path) -> None:
    files = [folder / "cat.png", folder / "bagel.png"]
    expected = hosted[1]["refined"].score_samples(files)
    for number, names in ((0, ["cat.png", "bagel.png"]), (3, ["cat.png"]), (4, ["cat.png"])):
        done = run(BASH[number], guarded, folder)
        assert done.returncode == 0, done
        rows = json.loads(done.stdout)["results"]
        assert [row["name"] for row in rows] == names
        assert [row["score"] for row in rows] == pytest.approx(expected[: len(rows)], abs=1e-6)
    (explained,) = json.loads(run(BASH[1], guarded, folder).stdout)["results"]
    assert explained["score"] == pytest.approx(expected[0], abs=1e-6)
    assert explained["headline"]
    assert run(BASH[2], guarded, folder).returncode == 0
    assert (folder / "card.png").read_bytes().startswith(b"\x89PNG")
    refused = run(BASH[0], guarded, folder, "wrong")
    assert refused.returncode == 22
    assert "wants a token" in json.loads(refused.stdout)["detail"]


def test_python(guarded: Server, hosted: Hosted, folder: Path) -> None:
    expected = hosted[1]["refined"].score_samples([folder / "cat.png", folder / "bagel.png"])
    done = run(PYTHON[0], guarded, folder)
    assert done.returncode == 0, done
    cat, bagel, headline = done.stdout.splitlines()
    assert float(cat.split()[1]) == pytest.approx(expected[0], abs=1e-6)
    assert float(bagel.split()[1]) == pytest.approx(expected[1], abs=1e-6)
    assert bagel.split()[2] in {"ID", "OOD"}
    assert headline.endswith(".")
    assert (folder / "card.png").read_bytes().startswith(b"\x89PNG")
    refused = run(PYTHON[0], guarded, folder, "wrong")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        "RuntimeError: 401: This server wants a token"
    )
    (folder / "bagel.png").write_bytes(b"no picture")
    mixed = run(PYTHON[0], guarded, folder)
    assert mixed.stdout.splitlines()[1].startswith("bagel.png cannot be read: bagel.png: ")
    (folder / "cat.png").write_bytes(b"no picture")
    none = run(PYTHON[0], guarded, folder)
    assert "RuntimeError: 422: No image of the request can be read" in none.stderr


def test_python_waits_while_the_server_is_overloaded(
    zygote: Zygote, hosted: Hosted, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEGREFINE_TOKEN", "")
    options = ("--queue", 2, "--max-images", 2, "--batch-wait", 2000)
    server = zygote.start(hosted[0] / "csp", *options, NEGREFINE_TOKEN="")
    server.wait_until_ready()
    body = form([(name, (folder / name).read_bytes()) for name in ("cat.png", "bagel.png")])
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(server.ask, "/v1/score", body, headers=FORM)
        wait_until(lambda: server.metrics()["negrefine_queue_images"] == 2)
        code = PYTHON[0].partition("if __name__")[0].replace(ADDRESS, server.url.rstrip("/"))
        space: dict[str, object] = {"__name__": "client"}
        exec(compile(code, str(PAGE), "exec"), space)  # noqa: S102 - the page's own example
        answer = space["ask"]("/v1/score", [folder / "cat.png"])  # type: ignore[operator]
        assert filling.result().status == 200
    assert [row["error"] for row in answer["results"]] == [None]
    assert server.metrics()['negrefine_shed_requests_total{reason="queue"}'] >= 1
    server.signal(15)
    assert server.wait() == 0


def test_python_with_requests(guarded: Server, folder: Path) -> None:
    if importlib.util.find_spec("requests") is None:
        pytest.skip("requests is not installed")
    done = run(PYTHON[1], guarded, folder)
    assert done.returncode == 0, done
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["cat.png", "bagel.png"]
