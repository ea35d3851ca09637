"""Progress bars on a terminal, and elsewhere one line for each stage that took long.

Bars may be inside each other. The stages of a `whole_work` advance its one bar, so that the time
left is that of all stages, and bars inside `Advance.shared` advance the bar around them little by
little while some of its items are being worked at.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from negrefine.shown_text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

LONG_SECONDS = 10.0
"""Shorter stages leave no line."""


class Advance:
    """Counts items as `done`, and advances its bar and the one around it, if there are any."""

    def __init__(
        self, row: _Row | None = None, *, around: Advance | None = None, weight: float = 0.0
    ) -> None:
        self._row = row
        self._around = around
        self._weight = weight
        self._settled = 0.0
        self.done = 0

    def __call__(self, n: int = 1) -> None:
        """Count `n` more items as done."""
        self.done += n
        self._move(n)

    def drop(self, n: float) -> None:
        """Reduce the total by `n` items that need not be done."""
        self._settled += n
        if self._row is not None:
            self._row.shrink(n)
        if self._around is not None:
            self._around.drop(n * self._weight)

    @contextmanager
    def shared(self, n: int) -> Iterator[None]:
        """Count `n` items as done after this block, and meanwhile what bars in it have done."""
        before = self._settled
        token = _around.set(_Around(self, n))
        try:
            yield
        finally:
            _around.reset(token)
        self.done += n
        self._move(max(0.0, n - (self._settled - before)))

    def describe(self, description: str) -> None:
        """Change the caption."""
        if self._row is not None:
            self._row.describe(description)

    def _move(self, n: float) -> None:
        self._settled += n
        if self._row is not None:
            self._row.move(n)
        if self._around is not None:
            self._around._move(n * self._weight)


@dataclass(frozen=True)
class _Row:
    """One bar on the terminal."""

    bars: Progress
    task: TaskID

    def move(self, n: float) -> None:
        self.bars.advance(self.task, n)

    def shrink(self, n: float) -> None:
        total = self.bars.tasks[self.task].total
        if total is not None:
            self.bars.update(self.task, total=max(0.0, total - n))

    def describe(self, description: str) -> None:
        self.bars.update(self.task, description=visible(description))


@dataclass(frozen=True)
class _Around:
    """The bar around a block, of which this block is so many items; None for a whole work."""

    advance: Advance
    n: float | None = None


_around: ContextVar[_Around | None] = ContextVar("around", default=None)
# All bars that are drawn at the same time belong to one object of rich.
_drawn: ContextVar[Progress | None] = ContextVar("drawn", default=None)


@contextmanager
def whole_work(description: str, total: Callable[[], float], *, enabled: bool) -> Iterator[None]:
    """Draw one bar over several stages, which are the `progress_bar` in it that say their `weight`.

    Where standard error is not a terminal, stages leave their own lines and this one leaves none.

    Args:
        description: Caption, before that of the stage.
        total: Counts the work, in units of the stages' weights; called if there is a bar.
        enabled: Show progress.
    """
    if not (enabled and sys.stderr.isatty()):
        yield
        return
    with _row(description, total(), None) as row:
        token = _around.set(_Around(Advance(row)))
        try:
            yield
        finally:
            _around.reset(token)


@contextmanager
def progress_bar(
    description: str,
    total: int | None,
    *,
    enabled: bool,
    unit: str | None = None,
    weight: float | None = None,
) -> Iterator[Advance]:
    """Yield a function that advances a bar on standard error.

    Where standard error is not a terminal, a stage that took `LONG_SECONDS` or more leaves one line
    with the number of items that were done. Nothing is written when `enabled` is false.

    Args:
        description: Caption.
        total: Number of items; None if it is not known.
        enabled: Show progress.
        unit: Also show the speed, in these per second.
        weight: Work of one item, for the bar of the `whole_work` that this is a stage of; None for
            a bar of its own.
    """
    around = _around.get()
    token = _around.set(None)
    started = time.monotonic()
    try:
        if around is not None and around.n is not None:
            yield Advance(around=around.advance, weight=around.n / total if total else 0.0)
        elif not enabled:
            yield Advance()
        elif not sys.stderr.isatty():
            advance = Advance()
            yield advance
            _leave_line(description, advance.done, time.monotonic() - started)
        elif around is not None and weight is not None:
            around.advance.describe(description)
            yield Advance(around=around.advance, weight=weight)
        else:
            with _row(description, total, unit) as row:
                yield Advance(row)
    finally:
        _around.reset(token)


def _leave_line(description: str, n: int, seconds: float) -> None:
    if seconds >= LONG_SECONDS:
        line = f"{visible(description)}: {n:,} in {seconds:,.0f} s"
        _console().print(line, markup=False, soft_wrap=True)


@contextmanager
def _row(description: str, total: float | None, unit: str | None) -> Iterator[_Row]:
    """Draw a bar, below those that are drawn already."""
    bars = _drawn.get()
    if bars is not None:
        yield _Row(bars, bars.add_task(visible(description), total=total, unit=unit))
        return
    with _new_bars() as bars:
        token = _drawn.set(bars)
        try:
            yield _Row(bars, bars.add_task(visible(description), total=total, unit=unit))
        finally:
            _drawn.reset(token)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _new_bars() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed, unit = task.finished_speed or task.speed, task.fields["unit"]
            known = speed is not None and unit is not None
            return Text(f"{speed:,.1f} {unit}/s" if known else "")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
        console=_console(),
    )
