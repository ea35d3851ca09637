"""Progress bars that show on a terminal and stay quiet in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text


class Advance:
    """Reports that items are done; counts nothing if there is no bar."""

    def __init__(
        self,
        advance: Callable[[int], None] | None = None,
        drop: Callable[[int], None] | None = None,
    ) -> None:
        self._advance = advance
        self._drop = drop

    def __call__(self, n: int = 1) -> None:
        """Report that `n` more items are done."""
        if self._advance is not None:
            self._advance(n)

    def drop(self, n: int) -> None:
        """Report that `n` items less than announced have to be done."""
        if self._drop is not None:
            self._drop(n)


@contextmanager
def progress_bar(
    description: str, total: int, *, enabled: bool, unit: str | None = None
) -> Iterator[Advance]:
    """Yield a function that advances a bar on standard error.

    Nothing is drawn when `enabled` is false or when standard error is not a terminal.

    Args:
        description: Caption.
        total: Number of items.
        enabled: Draw on a terminal.
        unit: Also show how many of these are done in a second.
    """
    if not enabled or not sys.stderr.isatty():
        yield Advance()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if unit is not None:
        columns.insert(3, _speed_column(unit))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        left = total

        def drop(n: int) -> None:
            nonlocal left
            left -= n
            bar.update(task, total=left)

        yield Advance(lambda n: bar.advance(task, n), drop)


def _speed_column(unit: str) -> ProgressColumn:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {unit}/s")

    return Speed()
