"""Tiny models of every family, each made and loaded once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from encoders import family_models
from negrefine import load_encoder
from negrefine.encoders import CLIPEncoder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the directory of a family's model; do not change it."""
    root = tmp_path_factory.mktemp("families")
    return cache(lambda kind: family_models.save(kind, root / kind))


@pytest.fixture(scope="session")
def encoder_of(model_dir: Callable[[str], Path]) -> Callable[[str], CLIPEncoder]:
    """Returns the encoder of a family's model."""
    return cache(lambda kind: load_encoder(model_dir(kind), device="cpu", cache=False))
