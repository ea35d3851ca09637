"""The sources of this encoder: fetched, checked and unpacked by the other encoder's `fetch`."""

from __future__ import annotations

from pathlib import Path

import fetch

SOURCES = Path(__file__).with_name("sources.json")


def main(work: Path) -> None:
    """Download what is missing, and stop at a wrong checksum."""
    fetch.main(work, SOURCES)
