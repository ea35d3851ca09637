"""Write WORK/sources.md: the table of sources for the card and for NOTICE."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from fetch import read_sources


def main(work: Path) -> None:
    """Count the drawings of each style without those with added outlines."""
    lines = (work / "images.jsonl").read_text(encoding="utf-8").splitlines()
    counts = Counter(row["style"] for row in map(json.loads, lines) if row["variant"] == "plain")
    table = ["| package | version | by | licence | role | drawings |", "|---|---|---|---|---|---|"]
    for source in read_sources():
        drawings = f"{counts[source['style']]:,}" if "style" in source else ""
        place = " (PyPI)" if source["from"] == "PyPI" else ""
        cells = (
            f"`{source['package']}`{place}",
            source["version"],
            source["by"],
            source["licence"],
            source["role"],
            drawings,
        )
        table.append("| " + " | ".join(cells) + " |")
    (work / "sources.md").write_text("\n".join(table) + "\n", encoding="utf-8")
