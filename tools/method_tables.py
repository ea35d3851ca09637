"""Write the tables of methods in docs/methods.md from the methods' own declarations.

`python tools/method_tables.py` rewrites the parts between the markers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from negrefine.detectors.parameters import declared_parameters
from negrefine.detectors.registry import DETECTORS
from negrefine.streaming import STREAMS

DOCS = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
MARKERS = "<!-- {}: begin -->\n", "<!-- {}: end -->\n"


def table() -> str:
    """Return Markdown about the detectors: one line a method, then one line a parameter."""
    lines = [
        "| method | name | paper | parts of the score | needs |",
        "|---|---|---|---|---|",
    ]
    for method, cls in DETECTORS.items():
        needs = [
            text
            for text, needed in (
                ("patch features", cls.uses_patches),
                ('a "no" text tower', cls.uses_no_texts),
                ("a learned bias", cls.uses_logit_bias),
            )
            if needed
        ]
        parts = ", ".join(f"`{part}`" for part in cls.parts) or "the name of its `rule`"
        parts += "".join(f"; `{part}` with proposals" for part in cls.further_parts)
        lines.append(
            f"| {cls.title} | `{method}` | {cls.paper} | {parts} | {', '.join(needs) or '-'} |"
        )
    return "\n".join([*lines, "", *_parameters(DETECTORS)]) + "\n"


def stream_table() -> str:
    """Return the same about the methods that learn from the stream."""
    lines = ["| method | class | paper | parts of the score |", "|---|---|---|---|"]
    for cls in STREAMS.values():
        parts = ", ".join(f"`{part}`" for part in cls.parts)
        lines.append(f"| {cls.title} | `{cls.__name__}` | {cls.paper} | {parts} |")
    return "\n".join([*lines, "", *_parameters(STREAMS)]) + "\n"


def _parameters(classes: Mapping[str, type]) -> list[str]:
    rows: dict[tuple[str, str], list[str]] = {}
    for cls in classes.values():
        title = cls.title  # type: ignore[attr-defined]
        for name, each in declared_parameters(cls).items():
            rows.setdefault((name, each.help), []).append(f"{title} {_short(each.default)}")
    lines = ["| parameter | default | meaning |", "|---|---|---|"]
    for (name, text), defaults in rows.items():
        lines.append(f"| `{name}` | {', '.join(defaults)} | {text} |")
    return lines


def _short(default: object) -> str:
    return f"{len(default)} values" if isinstance(default, tuple) and default else f"`{default}`"


def rewritten(text: str) -> str:
    """Return the page with the tables between their markers."""
    for name, content in (("methods", table()), ("streams", stream_table())):
        begin, end = (marker.format(name) for marker in MARKERS)
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        text = f"{before}{begin}{content}{end}{after}"
    return text


if __name__ == "__main__":
    DOCS.write_text(rewritten(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
