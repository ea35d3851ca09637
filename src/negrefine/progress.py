"""Progress bars on a terminal, and elsewhere one line for each stage that took long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from negrefine.shown_text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

LONG_SECONDS = 10.0
"""Shorter stages leave no line."""


class Advance:
    """Counts items as `done`, and advances the one task of a progress bar, if there is a bar."""

    def __init__(self, bar: Progress | None = None) -> None:
        self._bar = bar
        self.done = 0

    def __call__(self, n: int = 1) -> None:
        """Count `n` more items as done."""
        self.done += n
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], n)

    def drop(self, n: int) -> None:
        """Reduce the total by `n` items that need not be done."""
        if self._bar is not None:
            (task,) = self._bar.tasks
            self._bar.update(task.id, total=(task.total or 0) - n)


@contextmanager
def progress_bar(
    description: str, total: int, *, enabled: bool, unit: str | None = None
) -> Iterator[Advance]:
    """Yield a function that advances a bar on standard error.

    Where standard error is not a terminal, a stage that took `LONG_SECONDS` or more leaves one line
    with the number of items that were done. Nothing is written when `enabled` is false.

    Args:
        description: Caption.
        total: Number of items.
        enabled: Show progress.
        unit: Also show the speed, in these per second.
    """
    if not enabled:
        yield Advance()
        return
    if not sys.stderr.isatty():
        started, advance = time.monotonic(), Advance()
        yield advance
        seconds = time.monotonic() - started
        if seconds >= LONG_SECONDS:
            line = f"{visible(description)}: {advance.done:,} in {seconds:,.0f} s"
            _console().print(line, markup=False, soft_wrap=True)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if unit is not None:
        columns.insert(3, _speed_column(unit))
    with Progress(*columns, console=_console()) as bar:
        bar.add_task(visible(description), total=total)
        yield Advance(bar)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _speed_column(unit: str) -> ProgressColumn:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {unit}/s")

    return Speed()
