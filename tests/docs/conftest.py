"""A folder in which the tutorials are typed, and what they share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# One process with torch for the commands, as in the tests of the command line.
from cli.conftest import quick  # noqa: F401
from transcripts import Reader

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="session")
def pictures(quick: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The folder that the first page of the tutorials makes, with pictures and a detector."""
    folder = tmp_path_factory.mktemp("tutorials")
    assert len(Reader(quick, folder).read(DOCS / "tutorials" / "index.md")) == 2
    return folder


@pytest.fixture
def reader(quick: Any, pictures: Path, tmp_path: Path) -> Callable[..., Reader]:  # noqa: F811
    """Returns somebody who has done the first page; what they change stays their own."""
    folder = tmp_path / "trial"
    shutil.copytree(pictures, folder)

    def start(**replaced: str) -> Reader:
        return Reader(quick, folder, replaced)

    return start
