"""The command line as a whole: help, wrong usage, output to terminals and pipes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cli.workspace import Workspace
from commands import run


def test_help_and_version(quick: Any) -> None:
    done = run("--help")
    assert done.code == 0
    commands = ["fit", "calibrate", "score", "explain", "labels", "demo"]
    for command in commands:
        assert f"\n  {command} " in done.out
        page = quick(command, "--help")
        assert page.code == 0
        assert page.err == ""
        assert f"negrefine {command} " in page.out
    assert run("--version").out.startswith("negrefine 0.")


@pytest.mark.parametrize("command", [[], ["fit"], ["evaluate"], ["sweep"]])
def test_help_is_quick_and_needs_no_torch(command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = {['negrefine', *command, '--help']}; import negrefine.cli as c\n"
    )
    code += "slow = {'torch', 'transformers', 'sklearn', 'scipy'}\n"
    code += "try: c.main()\nexcept SystemExit: print(bool(slow & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["fit"],
        ["fit", "--classes", "c.txt", "--out", "d"],
        ["fit", "--classes", "c", "--out", "d", "--encoder", "builtin", "--method", "magic"],
        ["fit", "--classes", "c", "--out", "d", "--encoder", "builtin", "--k", "many"],
        ["fit", "--classes", "c", "--out", "d", "--encoder", "builtin", "--min-frequency", "-1"],
        ["score", "detector"],
        ["score", "detector", "images", "--batch-size", "0"],
        ["explain", "detector", "image", "--top", "0"],
        ["labels", "detector", "--show", "some"],
    ],
)
def test_wrong_usage(quick: Any, arguments: list[str]) -> None:
    done = quick(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


def test_output_that_the_terminal_cannot_show(work: Workspace) -> None:
    picture = work.pictures / work.good[0]
    done = run("score", work.plain, picture, PYTHONIOENCODING="ascii")
    assert done.code == 0, done.err
    assert r"gr\xfcn \U0001f98a.png" in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_leaves(work: Workspace, reader: str) -> None:
    command = f"{sys.executable} -m negrefine score '{work.plain}' '{work.pictures}' | {reader}"
    done = subprocess.run(  # noqa: S602 - a pipe as a user types it
        command,
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "BrokenPipe" not in done.stderr
