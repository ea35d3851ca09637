"""The image, compose.yaml and the unit of systemd, as far as they run without their engines."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from negrefine import Detector
from serving.processes import Server, Zygote

ROOT = Path(__file__).parents[2]
TOKEN = "token-of-the-deployment"  # noqa: S105
Hosted = tuple[Path, dict[str, Detector]]


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and what follows them."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined if line)]


def the(name: str) -> str:
    """Return what follows the last instruction of a name."""
    return next(rest for each, rest in reversed(instructions()) if each == name)


def environment() -> dict[str, str]:
    pairs = (pair.partition("=") for pair in the("ENV").split())
    return {name: value for name, _, value in pairs}


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return content


def health_checks() -> list[list[str]]:
    """Return the commands of the image and of compose.yaml."""
    of_image = json.loads(the("HEALTHCHECK").partition(" CMD ")[2])
    kind, *of_compose = compose()["services"]["negrefine"]["healthcheck"]["test"]
    assert kind == "CMD"
    return [of_image, of_compose]


def is_healthy(command: list[str], port: int, path: str = "/readyz") -> bool:
    """Run a health check against another port, or another path."""
    assert command[:2] == ["python", "-c"]
    assert "8000" in command[2]
    assert "'/readyz'" in command[2]
    code = command[2].replace("8000", str(port)).replace("'/readyz'", repr(path))
    # A health check must not go through a proxy.
    proxied = {**os.environ, "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=proxied, check=False, timeout=20)
    return done.returncode == 0


@pytest.fixture(scope="module")
def contained(zygote: Zygote, hosted: Hosted, tmp_path_factory: Any) -> Iterator[Server]:
    """A server as compose.yaml starts it, in surroundings where nothing can be written."""
    token = tmp_path_factory.mktemp("secrets") / "token"
    token.write_text(f"{TOKEN}\n")
    places = {"/detector": str(hosted[0] / "refined"), "/run/secrets/negrefine_token": str(token)}
    entry = json.loads(the("ENTRYPOINT"))
    assert entry[:2] == ["negrefine", "serve"]
    assert json.loads(the("CMD")) == ["/detector"]
    command = compose()["services"]["negrefine"]["command"]
    given = [places.get(each, each) for each in [*entry[2:], *command]]
    given[given.index("8000")] = "0"
    nowhere = {"HOME": "/proc/nowhere", "NEGREFINE_CACHE": "/proc/nowhere", "NEGREFINE_TOKEN": ""}
    server = zygote.start(*given, **{**environment(), **nowhere, "PATH": os.environ["PATH"]})
    server.wait_until_ready()
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    yield server
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def port_of(server: Server) -> int:
    return int(server.url.rstrip("/").rpartition(":")[2])


@pytest.mark.parametrize("number", [0, 1])
def test_health_checks_tell_a_server_from_none(contained: Server, number: int) -> None:
    command = health_checks()[number]
    assert is_healthy(command, port_of(contained))
    # An answer alone is not enough, and the port 9 has none.
    assert not is_healthy(command, port_of(contained), "/nothing")
    assert not is_healthy(command, 9)


def test_what_compose_starts_wants_the_token_and_its_own_names(
    contained: Server, hosted: Hosted, pictures: list[tuple[str, bytes]]
) -> None:
    assert contained.post("/v1/score", pictures[:1]).problem() == (401, "token")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    answer = contained.post("/v1/score", pictures[:3], **bearer)
    expected = hosted[1]["refined"].score_samples([data for _, data in pictures[:3]])
    assert [row["score"] for row in answer.json["results"]] == pytest.approx(expected, abs=1e-6)
    assert (
        contained.ask("/v1/detectors", headers={**bearer, "Host": "localhost:8000"}).status == 200
    )
    assert contained.ask("/v1/detectors", headers={**bearer, "Host": "evil.test"}).status == 421
    # Nothing can be written, which is said once.
    warnings = contained.err.read_text().splitlines()
    assert len(warnings) == 1, warnings
    assert "The embedding cache '/proc/nowhere/" in warnings[0]
    assert "texts are encoded again" in warnings[0]


def test_the_image_runs_as_nobody_and_listens_where_it_says() -> None:
    user, _, group = the("USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    created = " ".join(rest for name, rest in instructions() if name == "RUN")
    assert f"--uid {user}" in created
    assert f"install -d -o {user} -g {group} {environment()['NEGREFINE_CACHE']}" in created
    entry = json.loads(the("ENTRYPOINT"))
    assert entry[entry.index("--port") + 1] == the("EXPOSE")
    assert "TOKEN" not in "".join(f"{name} {rest}" for name, rest in instructions())


def test_the_image_copies_what_there_is_and_installs_what_is_pinned() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert "*" in rules
    assert set(copied) == admitted
    assert all((ROOT / source).exists() for source in copied)
    # Whatever pyproject.toml names as licence must be among them, or the wheel is not built.
    licences = re.search(r"license-files = (\[.*?\])", (ROOT / "pyproject.toml").read_text())
    assert licences is not None
    for pattern in json.loads(licences[1]):
        assert any(fnmatch.fnmatch(pattern, f"{each}*") for each in copied), pattern
    pinned = re.search(r'"(torch==\$\(.*?\)\+cpu)"', (ROOT / "Dockerfile").read_text())
    assert pinned is not None
    shown = subprocess.run(
        ["/bin/sh", "-c", f'echo "{pinned[1]}"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    line = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert line is not None
    assert shown.stdout.strip() == f"{line[0]}+cpu"


def test_compose_publishes_on_the_loopback_interface_and_writes_only_the_cache() -> None:
    content = compose()
    (service,) = content["services"].values()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert [port.rpartition(":")[2] for port in service["ports"]] == [the("EXPOSE")]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    writable = [each["target"] for each in service["volumes"] if not each.get("read_only")]
    assert writable == [environment()["NEGREFINE_CACHE"]]
    targets = {each["target"] for each in service["volumes"]}
    assert {*json.loads(the("CMD")), environment()["HF_HOME"]} < targets
    assert {each["source"] for each in service["volumes"] if each["type"] == "volume"} <= set(
        content["volumes"]
    )
    (secret,) = content["secrets"]
    assert f"/run/secrets/{secret}" in service["command"]
    assert service["secrets"] == [secret]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    # Accepted requests have 30 seconds.
    assert int(service["stop_grace_period"].removesuffix("s")) > 30


def test_the_unit_of_systemd_is_one(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze")
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    unit = re.search(r"```ini\n(.*?)```", text, re.DOTALL)
    assert unit is not None
    file = tmp_path / "negrefine.service"
    program = "/opt/negrefine/bin/negrefine"
    assert program in unit[1]
    file.write_text(unit[1].replace(program, sys.executable))

    def complaints() -> list[str]:
        done = subprocess.run(
            [analyze, "verify", "--man=no", file], capture_output=True, text=True, check=False
        )
        # Other units of the machine may be broken.
        return [line for line in done.stderr.splitlines() if "negrefine" in line]

    assert complaints() == []
    file.write_text(unit[1].replace(program, sys.executable).replace("Type=exec", "Tpye=exec"))
    assert any("Tpye" in line for line in complaints())
