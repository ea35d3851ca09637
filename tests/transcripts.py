"""Pages whose code blocks run, and whose printed output is compared with what they say.

A block of ```bash or ```python runs, unless a comment before it says why not, such as
`<!-- not run: needs a cluster -->`; a block of ```text right after it is what it prints. There a
line of "..." stands for any lines, "…" within a line for anything, and the last digits of numbers
with a point may differ, as they do between machines. Blocks of Python share their names.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TOLERANCE = 2e-3
_NUMBER = re.compile(r"-?\d+\.\d+")
# What looks like a block of commands or Python, also where it is none that runs.
_FENCE = re.compile(r"^[ \t>]*(?:`{3,}|~{3,})[ \t{]*(?:bash|sh|shell|python|py)\b", re.MULTILINE)
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n+)?"
    r"^```(?P<kind>bash|python)\n(?P<code>.*?)^```$"
    r"(?:\n+^```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code on a page.

    Attributes:
        kind: "bash" or "python".
        output: What it prints, None where the page does not say.
        line: Its number on the page, from 1.
        reason: Why it does not run, None if it does.
    """

    kind: str
    code: str
    output: str | None
    line: int
    reason: str | None


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page in their order; AssertionError for one that would never run."""
    found = [
        Block(
            match["kind"],
            match["code"],
            match["output"],
            text.count("\n", 0, match.start("kind")) + 1,
            match["reason"],
        )
        for match in _BLOCK.finditer(text)
    ]
    n = len(_FENCE.findall(text))
    assert n == len(found), (
        f"{n} blocks begin and {len(found)} can run: begin them with ```bash or ```python alone, "
        "at the left margin, and end them with ```"
    )
    return found


def is_like(line: str, printed: str) -> bool:
    """Tell whether lines are equal but for the last digits of their numbers."""
    if "…" in line:
        pattern = ".*".join(map(re.escape, line.split("…")))
        return re.fullmatch(pattern, printed) is not None
    numbers = [[*map(float, _NUMBER.findall(text))] for text in (line, printed)]
    words = [_NUMBER.sub("#", text) for text in (line, printed)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], abs=TOLERANCE)


def assert_printed(wanted: Iterable[str], printed: Iterable[str]) -> None:
    """Fail unless the lines are those that a page has, where "..." stands for any lines."""
    shown = list(printed)
    rest = iter(shown)
    skipping = False
    for line in wanted:
        if line.strip() == "...":
            skipping = True
            continue
        found = next((each for each in rest if not skipping or is_like(line, each)), None)
        assert found is not None, (line, shown)
        assert is_like(line, found), (line, found)
        skipping = False
    assert skipping or list(rest) == [], shown


@dataclass
class Reader:
    """Somebody who types the blocks of a page, in a folder.

    Attributes:
        quick: Runs `negrefine` (the fixture of this name).
        folder: Where the commands run.
        replaced: Texts of the page, such as addresses, and what stands for them here.
        names: What the blocks of Python have defined.
    """

    quick: Any
    folder: Path
    replaced: dict[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)

    def read(self, page: Path) -> list[Block]:
        """Run the blocks of a page and compare what they print; return those that ran."""
        ran = [block for block in blocks(page.read_text(encoding="utf-8")) if not block.reason]
        for block in ran:
            try:
                printed = self.run(block)
                if block.output is not None:
                    assert_printed(block.output.splitlines(), printed.rstrip("\n").split("\n"))
            except Exception as error:  # noqa: PERF203 - which block it was
                raise AssertionError(f"{page.name}, line {block.line}: {error}") from error
        return ran

    def run(self, block: Block) -> str:
        """Run one block; return what it prints on standard output."""
        code = block.code
        for text, other in self.replaced.items():
            code = code.replace(text, other)
        if block.kind == "bash":
            return "".join(self._command(command) for command in _commands(code))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), _inside(self.folder):
            exec(compile(code, f"line {block.line}", "exec"), self.names)  # noqa: S102
        return printed.getvalue()

    def _command(self, command: str) -> str:
        # What only `negrefine` has to do needs no new process that imports torch.
        if re.match(r"negrefine [^|<>;&]*$", command):
            done = self.quick(*_words(command)[1:], cwd=self.folder)
            assert done.code == 0, (command, done.err)
            return str(done.out)
        ended = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, (command, ended.stderr)
        return ended.stdout


def _commands(code: str) -> Iterator[str]:
    """Yield commands, of which one may have several lines; comments are left out."""
    for command in code.replace("\\\n", " ").splitlines():
        if command.strip() and not command.startswith("#"):
            yield command.strip()


def _words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
