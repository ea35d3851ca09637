"""The example of the README prints what the README says."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from negrefine.benchmarks.bundled import demo_images
from transcripts import assert_printed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example() -> tuple[list[str], list[str]]:
    """Return the commands of the example on bundled pictures, and the lines they print."""
    part = README.partition("with pictures that are in the clone:")[2]
    commands, output = re.findall(r"```(?:bash)?\n(.*?)```", part, re.DOTALL)[:2]
    return commands.splitlines(), output.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_the_example_on_photographs_of_ones_own_runs(quick: Any, tmp_path: Path) -> None:
    part = README.partition("with photographs of your own")[2]
    commands = re.findall(r"```bash\n(.*?)```", part, re.DOTALL)[0].splitlines()
    drawings = [image.path for image in demo_images()]
    for folder, some in (("good", drawings[:19]), ("new", drawings[100::60])):
        (tmp_path / folder).mkdir()
        for path in some:
            (tmp_path / folder / path.name).symlink_to(path)
    subprocess.run(commands[0], shell=True, cwd=tmp_path, check=True)  # noqa: S602
    fit, score = (quick(*shlex.split(command)[1:], cwd=tmp_path) for command in commands[1:])
    assert (fit.code, score.code) == (0, 0), (fit.err, score.err)
    assert "'builtin-photo'" in fit.err
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text("utf-8").splitlines()))
    assert len(rows) == len(list((tmp_path / "new").iterdir())) > 2
    assert {row["verdict"] for row in rows} <= {"ID", "OOD"}
    assert all(row["nearest_class"] and row["nearest_negative"] for row in rows)
    assert (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_the_example_prints_what_the_readme_says(quick: Any, tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")
    commands, wanted = example()
    printed: list[str] = []
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == ".venv/bin/negrefine":
            done = quick(*arguments, cwd=tmp_path)
            assert done.code == 0, done.err
            printed += done.out.rstrip("\n").split("\n")
        else:
            subprocess.run(command, shell=True, cwd=tmp_path, check=True)  # noqa: S602
    assert [command.split()[1] for command in commands[1:]] == ["fit", "explain", "score"]
    assert_printed(wanted, printed)

    sentence = README.partition("Saved detectors are plain directories: ")[2]
    patterns = re.findall(r"`([\w.*-]+)`", sentence.partition("\n\n")[0])
    files = [file.name for file in (tmp_path / "fruits").iterdir()]
    assert len(files) == len(patterns) == 4
    assert all(any(fnmatch(file, pattern) for file in files) for pattern in patterns)
