"""Small drawings as SVG, legible on light and on dark paper: axes, dots, lines, bars, words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

# The colours follow what the reader's system prefers, as the site does.
_STYLE = """
svg{--ink:#1f2430;--faint:#5f6775;--line:#d5d9e0;--paper:#fff;--a:#1d6fb8;--b:#c2571a;--c:#2c8a5b}
@media(prefers-color-scheme:dark){svg{--ink:#e8eaee;--faint:#a3abb8;--line:#3a4150;--paper:#15181e;
--a:#6cb2f2;--b:#f29a5e;--c:#6fcf9c}}
.paper{fill:var(--paper)}text{fill:var(--ink);font:13px system-ui,sans-serif}
.faint{fill:var(--faint);font-size:12px}.line{stroke:var(--line);fill:none}
.title{font-weight:600;font-size:14px}.dash{stroke-dasharray:5 4}
.white{fill:#fff}.a{fill:var(--a)}.b{fill:var(--b)}.c{fill:var(--c)}.d{fill:var(--faint)}
.la{stroke:var(--a)}.lb{stroke:var(--b)}.lc{stroke:var(--c)}.ld{stroke:var(--faint)}
.curve{fill:none;stroke-width:2.2}.dot{fill-opacity:.7}
"""


class Drawing:
    """Elements of an SVG of a width and a height in pixels."""

    def __init__(self, width: int, height: int, description: str) -> None:
        """Begin with an empty sheet; `description` is for those who do not see it."""
        self.width, self.height, self.description = width, height, description
        self._elements: list[str] = []

    def add(self, element: str) -> None:
        """Add an element as it is."""
        self._elements.append(element)

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Add a line of text."""
        self.add(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> None:
        """Add a straight line."""
        self.add(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{kind}"/>')

    def dot(self, x: float, y: float, kind: str, radius: float = 3.5) -> None:
        """Add a dot."""
        self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="dot {kind}"/>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Add a rectangle with round corners."""
        self.add(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3" '
            f'class="{kind}"/>'
        )

    def legend(self, x: float, y: float, entries: Iterable[tuple[str, str]]) -> None:
        """Add dots with words below each other."""
        for i, (kind, text) in enumerate(entries):
            self.dot(x, y + 20 * i - 4, kind, 5)
            self.text(x + 12, y + 20 * i, text)

    def write(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            f'aria-label="{escape(self.description)}"><style>{_STYLE}</style>'
            f'<rect class="paper" width="{self.width}" height="{self.height}" rx="6"/>\n'
            + "\n".join(self._elements)
            + "\n</svg>\n",
            encoding="utf-8",
        )


class Axes:
    """A part of a drawing with a scale each way."""

    def __init__(
        self,
        drawing: Drawing,
        box: tuple[float, float, float, float],
        x_range: tuple[float, float],
        y_range: tuple[float, float],
    ) -> None:
        """Take the box (left, top, right, bottom) in pixels and the values at its ends."""
        self.drawing, self.box, self.x_range, self.y_range = drawing, box, x_range, y_range

    def x(self, value: float) -> float:
        """Return the place of a value from left to right."""
        left, _, right, _ = self.box
        low, high = self.x_range
        return left + (right - left) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Return the place of a value from bottom to top."""
        _, top, _, bottom = self.box
        low, high = self.y_range
        return bottom - (bottom - top) * (value - low) / (high - low)

    def frame(
        self,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]],
        x_caption: str,
        y_caption: str = "",
    ) -> None:
        """Add ticks and captions; the one of the vertical scale stands above it."""
        left, top, right, bottom = self.box
        for value, text in x_ticks:
            self.drawing.line(self.x(value), top, self.x(value), bottom)
            self.drawing.text(self.x(value), bottom + 17, text, "faint", "middle")
        for value, text in y_ticks:
            self.drawing.line(left, self.y(value), right, self.y(value))
            self.drawing.text(left - 7, self.y(value) + 4, text, "faint", "end")
        self.drawing.text((left + right) / 2, bottom + 36, x_caption, "faint", "middle")
        self.drawing.text(left, top - 9, y_caption, "faint")

    def curve(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """Add a line through points."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        self.drawing.add(f'<path d="M{path}" class="curve {kind}"/>')
