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


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["fit"],
        ["sweep", "--classes", "c.txt", "--id", "i", "--ood", "o=o"],
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
    assert done.err.startswith("negrefine: error: "), done.err
    assert done.err.count("\n") == 1
    command = "negrefine" if arguments == ["nonsense"] else f"negrefine {arguments[0]}"
    assert done.err.endswith(f" See '{command} --help'.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scroe"], "There is no command 'scroe': did you mean score?"),
        (["FIT"], "There is no command 'FIT': did you mean fit?"),
        (["eval"], "There is no command 'eval': did you mean evaluate?"),
        (["judge_cache"], "There is no command 'judge_cache': did you mean judge-cache?"),
        (["check", "demo"], "There is no command 'check': did you mean benchmark check?"),
        (["xyzzy"], "There is no command 'xyzzy'."),
        (["benchmark", "chekc"], "There is no command 'chekc': did you mean check?"),
        (["judge-cache", "exprot"], "There is no command 'exprot': did you mean export?"),
        (["fit", "--devise", "cpu"], "There is no option --devise: did you mean --device?"),
        (
            ["score", "--batchsize", "4"],
            "There is no option --batchsize: did you mean --batch-size",
        ),
        (["--versoin"], "There is no option --versoin: did you mean --version?"),
        (["benchmark", "run", "--abalation"], "no option --abalation: did you mean --ablation?"),
        (["fit", "--method", "negrefin"], "no method 'negrefin': did you mean negrefine?"),
        (["fit", "--method", "GL-MCM"], "no method 'GL-MCM': did you mean glmcm?"),
        (["explain", "d", "i", "--top", "few"], "'--top': it must be a valid integer."),
        (["labels", "d", "--show", "al"], "'--show': 'al' is not one of 'all', 'kept', 'removed'."),
        (["fit", "--fpr"], "Option '--fpr' requires an argument."),
        (["demo", "food"], "'food' is one argument too many: this command takes options only;"),
        (["labels", "d", "e f.png", "g.png"], "'e' is one argument too many: put quotes around a"),
        (["score", "detector"], "Missing argument 'IMAGES': files, folders, quoted patterns"),
        (
            ["fit", "--classes", "c"],
            "Missing option '--out': where to save the fitted detector. See",
        ),
    ],
)
def test_what_was_probably_meant(quick: Any, arguments: list[str], sentence: str) -> None:
    done = quick(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("negrefine: error: "), done.err
    assert done.err.count("\n") == 1
    assert sentence in done.err


def test_methods_of_an_evaluation_that_do_not_exist(quick: Any) -> None:
    images = ("--id", "a", "--ood", "b=b", "--classes", "c", "--encoder", "builtin", "--out", "o")
    done = quick("evaluate", *images, "--methods", "mcm,clpin")
    assert done.code == 1
    said = "There is no method 'clpin': did you mean clipn?"
    assert done.err == f"negrefine: error: {said}\n"


@pytest.mark.parametrize("command", [[], ["benchmark"], ["judge-cache"]])
def test_a_group_without_a_command_shows_its_help(quick: Any, command: list[str]) -> None:
    done = quick(*command)
    assert (done.code, done.out) == (2, "")
    assert done.err == quick(*command, "--help").out


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
