"""What `negrefine serve` says when it starts, and when it cannot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import negrefine
from negrefine import Detector
from serving.processes import Server, Zygote

Hosted = tuple[Path, dict[str, Detector]]


def failed(server: Server) -> str:
    """Return the sentence of a server that has not started."""
    assert server.wait() == 1
    assert server.out.read_text() == ""
    (line,) = server.err.read_text().splitlines()
    assert line.endswith(".")
    return line.removeprefix("negrefine: error: ")


def test_what_cannot_start_says_why(zygote: Zygote, hosted: Hosted, tmp_path: Path) -> None:
    refined = hosted[0] / "refined"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = failed(zygote.start(refined, "--port", port))
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in sentence
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "wide").write_text("sch\u00f6n")
    (tmp_path / "spaced").write_text("two words")
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "nothing"], "holds no saved detector"),
        ([f"a={refined}", f"a={hosted[0] / 'csp'}"], "Two detectors are called 'a'"),
        ([f"={refined}"], "is no NAME=DETECTOR_DIR"),
        ([refined, "--host", "no.such.host.invalid"], "There is no address"),
        ([refined, "--token-file", tmp_path / "missing"], "cannot be read: No such file"),
        ([refined, "--token-file", tmp_path / "empty"], "holds no token"),
        ([refined, "--token-file", tmp_path / "wide"], "cannot be read"),
        ([refined, "--token-file", tmp_path / "spaced"], "token must be printable ASCII"),
        ([refined, "--allow-host", "http://ood.example"], "--allow-host must be a name"),
        ([refined, "--allow-host", "ood.example:8443"], "--allow-host must be a name"),
        ([refined, "--allow-host", "*"], "--allow-host must be a name"),
        ([refined, "--queue", 3], "queue must be at least max_images"),
        ([refined, "--deadline", 0], "deadline must be a positive number of seconds"),
        ([refined, "--batch-wait", -1], "batch_wait must be a number of seconds"),
        ([refined, "--batch-wait", 900, "--deadline", 0.5], "shorter than the deadline"),
        ([refined, "--grace", -1], "--grace must be a number of seconds"),
        ([refined, "--device", "nowhere"], "nowhere"),
    ]
    for arguments, words in cases:
        assert words in failed(zygote.start(*arguments)), arguments
    sentence = failed(zygote.start(refined, NEGREFINE_IMAGE_GB="much"))
    assert "$NEGREFINE_IMAGE_GB is 'much'" in sentence


def test_a_server_for_all_without_a_token_warns(zygote: Zygote, hosted: Hosted) -> None:
    options = ["--host", "0.0.0.0", "--allow-host", "ood.example"]  # noqa: S104
    server = zygote.start(hosted[0] / "local", *options, NEGREFINE_TOKEN="")
    server.wait_until_ready()
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    first, second = server.err.read_text().splitlines()
    assert "listens on 0.0.0.0 without a token" in first
    assert "'local' has no threshold, so verdicts stay empty" in second
    assert server.ask("/v1/detectors", headers={"Host": "ood.example"}).status == 200
    assert server.ask("/v1/detectors", headers={"Host": "other.example"}).status == 421
    trusted = {"Host": "ood.example", "Origin": "https://ood.example"}
    assert server.ask("/v1/score", b"", headers=trusted).problem() == (415, "media-type")
    server.signal(15)
    assert server.wait() == 0


@pytest.fixture
def without_extra(tmp_path: Path) -> Iterator[Path]:
    """A folder of links to all packages but one of the extra."""
    import prometheus_client

    site = Path(prometheus_client.__file__).parents[1]
    folder = tmp_path / "site"
    folder.mkdir()
    for each in site.iterdir():
        if not each.name.startswith("prometheus_client"):
            (folder / each.name).symlink_to(each)
    return folder


def test_the_extra_is_named(without_extra: Path, hosted: Hosted) -> None:
    # Without the packages of the environment, but with ours and those of the folder.
    paths = [str(Path(negrefine.__file__).parents[1]), str(without_extra)]
    code = f"import sys; sys.path += {paths}; from negrefine.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, "serve", hosted[0] / "refined"],
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "negrefine: error: The server needs the package prometheus-client: pip install "
        "'negrefine[serve]'.\n"
    )
