"""More requests than a server can do: it sheds, loses nothing, and ends with all answers given.

A slice of `benchmarks/serving.py`, on a server whose capacity is small because its pictures are
large.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from negrefine import Detector
from serving.benchmark_parts import Client, Reply, Scored, demo_pictures, open_loop, watched
from serving.processes import Server, Zygote

Hosted = tuple[Path, dict[str, Detector]]
SIDE = 2000
RATE = 200.0
# Decoded pictures of 2000 x 2000 pixels in two or more threads, and torch's own.
MEGABYTES = 250


@pytest.fixture(scope="module")
def scored(hosted: Hosted) -> Scored:
    """Requests of one large picture each."""
    return Scored(hosted[0] / "csp", demo_pictures(12, SIDE, "PNG"))


def start(zygote: Zygote, hosted: Hosted) -> Server:
    options = ("--queue", 12, "--max-images", 4, "--batch-size", 4)
    server = zygote.start(hosted[0] / "csp", *options, NEGREFINE_TOKEN="")
    server.wait_until_ready()
    return server


def client_of(server: Server) -> Client:
    return Client(int(server.url.rstrip("/").rpartition(":")[2]))


def check(replies: Sequence[Reply], scored: Scored) -> Counter[int | None]:
    """Return how many had which status: 200 with the right score, or 503 with Retry-After."""
    assert not [reply.failure for reply in replies if reply.failure]
    statuses = Counter(reply.status for reply in replies)
    assert set(statuses) <= {200, 503}
    assert scored.wrong(replies) == 0
    for reply in replies:
        if reply.status == 503:
            assert 1 <= int(reply.headers["retry-after"]) <= 60
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json()["type"].startswith("urn:negrefine:problem:")
    return statuses


def test_overload_is_shed_and_nothing_is_lost(
    zygote: Zygote, hosted: Hosted, scored: Scored
) -> None:
    server = start(zygote, hosted)
    memory = psutil.Process(server.pid)

    def megabytes() -> float:
        return float(memory.memory_info().rss) / 1e6

    async def load() -> tuple[list[Reply], list[float]]:
        client = client_of(server)
        # The first pictures take memory that is used again.
        check(await open_loop(client, scored.requests, rate=20, seconds=0.5, seed=1), scored)
        before = megabytes()
        work = open_loop(client, scored.requests, rate=RATE, seconds=2, seed=0)
        replies, measured = await watched(work, megabytes)
        check([await client.send(0, scored.requests[0])], scored)
        started = time.monotonic()
        for _ in range(3):
            reply = await client.send(1, scored.requests[1])
            assert check([reply], scored)[200] == 1
        client.close()
        assert time.monotonic() - started < 5
        return replies, [each - before for each in measured]

    replies, grown = asyncio.run(load())
    assert len(replies) == RATE * 2
    statuses = check(replies, scored)
    assert statuses[200] >= 12
    assert statuses[503] >= 100
    assert max(grown) < MEGABYTES
    metrics = server.metrics()
    shed = metrics['negrefine_shed_requests_total{reason="queue"}']
    assert shed >= statuses[503]
    assert metrics["negrefine_queue_images"] == 0
    assert metrics["negrefine_bodies_bytes"] == 0
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_sigterm_under_load_cuts_no_answer_off(
    zygote: Zygote, hosted: Hosted, scored: Scored
) -> None:
    server = start(zygote, hosted)

    async def load() -> tuple[list[Reply], float]:
        client = client_of(server)
        work = open_loop(client, scored.requests, rate=RATE, seconds=1.5, seed=0)
        loading = asyncio.create_task(work)
        await asyncio.sleep(0.8)
        told = time.perf_counter()
        os.kill(server.pid, signal.SIGTERM)
        replies = await loading
        client.close()
        return replies, told

    replies, told = asyncio.run(load())
    assert server.wait() == 0
    assert "cut off" not in server.err.read_text()
    before = [reply for reply in replies if reply.sent is not None and reply.sent < told]
    after = [reply for reply in replies if reply.sent is None or reply.sent >= told]
    assert len(before) >= 20
    assert check(before, scored)[200] >= 1
    # What comes later is refused, by the server or, once it is gone, by the system.
    assert {reply.failure for reply in after} <= {None, "refused", "unanswered"}
    assert check([reply for reply in after if reply.failure is None], scored)[503] >= 1
    late = asyncio.run(client_of(server).send(0, scored.requests[0]))
    assert late.failure == "refused"
