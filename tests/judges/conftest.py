"""Fixtures of the judges' tests: an answer store, a server and tiny random models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from judges.chat_server import Server
from judges.tiny_models import CONFIGS, Plain, make_tokenizer, save_model
from negrefine.judges.store import AnswerStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    opened = AnswerStore(tmp_path / "deep" / "answers.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture(scope="session")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One directory for each architecture."""
    tokenizer = make_tokenizer()
    root = tmp_path_factory.mktemp("models")
    return {kind: save_model(root / kind, make(), tokenizer) for kind, make in CONFIGS.items()}


@pytest.fixture(scope="session")
def qwen(model_dirs: dict[str, Path]) -> Path:
    return model_dirs["qwen2"]


@pytest.fixture(scope="session")
def plain_qwen(qwen: Path) -> Plain:
    return Plain(qwen)
