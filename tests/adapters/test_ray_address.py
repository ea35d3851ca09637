"""Addresses at which no Ray cluster answers."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from conftest import CLASS_NAMES
from negrefine import MCM
from negrefine.adapters.ray import score_shards
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.sources.tar import TarShard


def test_no_cluster_is_a_sentence_at_once(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    MCM(builtin_encoder).fit(CLASS_NAMES).save(tmp_path / "detector")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    start = time.monotonic()
    for address in (f"127.0.0.1:{closed}", "127.0.0.1:port"):
        with pytest.raises(InputError, match=f"^There is no Ray cluster at '{address}'"):
            score_shards(
                tmp_path / "detector", [TarShard("a.tar")], tmp_path / "scores", address=address
            )
    # Ray itself would try for minutes.
    assert time.monotonic() - start < 60
