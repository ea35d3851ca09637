"""Write the table of methods in docs/methods.md from the methods' own declarations.

`python tools/method_tables.py` rewrites the part between the two markers.
"""

from __future__ import annotations

from pathlib import Path

from negrefine.detectors.parameters import declared_parameters
from negrefine.detectors.registry import DETECTORS

DOCS = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
BEGIN, END = "<!-- methods: begin -->\n", "<!-- methods: end -->\n"


def table() -> str:
    """Return Markdown: one line a method, then one line a parameter."""
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
        lines.append(
            f"| {cls.title} | `{method}` | {cls.paper} | {parts} | {', '.join(needs) or '-'} |"
        )
    lines += ["", "| parameter | default | meaning |", "|---|---|---|"]
    rows: dict[tuple[str, str], list[str]] = {}
    for cls in DETECTORS.values():
        for name, each in declared_parameters(cls).items():
            rows.setdefault((name, each.help), []).append(f"{cls.title} {_short(each.default)}")
    for (name, text), defaults in rows.items():
        lines.append(f"| `{name}` | {', '.join(defaults)} | {text} |")
    return "\n".join(lines) + "\n"


def _short(default: object) -> str:
    return f"{len(default)} values" if isinstance(default, tuple) and default else f"`{default}`"


def rewritten(text: str) -> str:
    """Return the page with the table between the markers."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    DOCS.write_text(rewritten(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
