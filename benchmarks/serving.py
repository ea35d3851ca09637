"""Load `negrefine serve` on the loopback interface: throughput, latency, overload, and its end.

    python benchmarks/serving.py [--detector DIR] [--image-size 224] [--images 1] [--seed 0]

Real server processes, and a client in this one, on the same cores. Batching is compared with
--batch-size 1 in turns, so that what else the machine does hits both. Latencies are those of
requests that arrive at random times at a given mean rate, whatever becomes of earlier ones, from
the moment at which a request was due. Takes one to three minutes.

Exit code 1 if a promise is broken: an answer with a wrong score, a request without an answer,
another status than 200 and 503, memory that grows beyond --megabytes, no recovery, or an accepted
request that SIGTERM cut off.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from http_load.client import Client, Reply, closed_loop, open_loop, percentile, watched
from http_load.pictures import Scored, demo_pictures
from http_load.process import ServerProcess, fit_small

_N_PICTURES = 64
_RECOVERY_SECONDS = 10


@dataclass
class Report:
    """Lines for a reader, and promises that were broken."""

    broken: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)

    def promise(self, held: bool, what: str) -> None:
        """Note what was broken, if it was."""
        if not held:
            self.broken.append(what)
            self.say(f"BROKEN: {what}")


def check(report: Report, scored: Scored, replies: Sequence[Reply], where: str) -> None:
    """Check what holds for all requests of a server that is not ending."""
    failures = Counter(reply.failure for reply in replies if reply.failure)
    report.promise(not failures, f"{where}: requests without an answer: {dict(failures)}")
    others = Counter(reply.status for reply in replies) - Counter({200: 10**9, 503: 10**9})
    others.pop(None, None)
    report.promise(not others, f"{where}: other answers than 200 and 503: {dict(others)}")
    shed = [reply for reply in replies if reply.status == 503]
    unsaid = sum(not reply.headers.get("retry-after", "").isdigit() for reply in shed)
    report.promise(not unsaid, f"{where}: {unsaid} answers of 503 without Retry-After")
    wrong = scored.wrong(replies)
    report.promise(not wrong, f"{where}: {wrong} answers with wrong scores")


def served(replies: Sequence[Reply]) -> list[Reply]:
    """Return the answers of 200."""
    return [reply for reply in replies if reply.status == 200]


async def throughput(
    report: Report, arguments: argparse.Namespace, servers: dict[str, ServerProcess], scored: Scored
) -> float:
    """Compare batching with batches of one, in turns; return requests a second with batching."""
    clients = {name: Client(server.port) for name, server in servers.items()}
    rates: dict[str, list[float]] = {name: [] for name in servers}
    costs: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(arguments.rounds + 1):
        for name, client in clients.items():
            started, used = time.perf_counter(), servers[name].cpu_seconds()
            replies = await closed_loop(
                client,
                scored.requests,
                connections=arguments.connections,
                seconds=arguments.seconds if turn else 1.0,
            )
            if turn:  # the first turn is for warming up
                n_images = arguments.images * len(served(replies))
                rates[name].append(n_images / (time.perf_counter() - started))
                costs[name].append(1000 * (servers[name].cpu_seconds() - used) / max(1, n_images))
            check(report, scored, replies, name)
    for client in clients.values():
        client.close()
    report.say(
        f"{arguments.connections} connections, images a request: {arguments.images}, "
        f"{arguments.rounds} turns of each; medians:"
    )
    for what, values in (("images/s", rates), ("CPU ms/image", costs)):
        batched, single = (np.array(values[name]) for name in servers)
        ratios = batched / single if values is rates else single / batched
        report.say(
            f"  {what}: batching {np.median(batched):.3g}, --batch-size 1 {np.median(single):.3g}, "
            f"ratio {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        )
    return float(np.median(rates["batching"])) / arguments.images


async def small_answers(report: Report, server: ServerProcess) -> None:
    """Time answers of a few bytes on one connection that is kept open."""
    client = Client(server.port)
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    # Clients acknowledge late, after 40 ms, on every answer but the first few of a connection.
    replies = [await client.send(0, request) for _ in range(60)][20:]
    client.close()
    report.promise(all(reply.status == 200 for reply in replies), "/healthz failed")
    milliseconds = percentile(replies, 50)
    report.say(f"/healthz on an open connection: {milliseconds:.1f} ms (median)")
    report.promise(milliseconds < 30, "small answers wait for an acknowledgement")


async def latencies(
    report: Report,
    arguments: argparse.Namespace,
    server: ServerProcess,
    scored: Scored,
    capacity: float,
) -> None:
    """Load a server at several rates, and see what becomes of requests and memory."""
    client = Client(server.port)
    before = server.megabytes()
    report.say(f"memory before: {before:.0f} MB")
    report.say("| load | arrivals/s | 200 | 503 | p50 ms | p99 ms | 503: p50 ms | peak memory |")
    report.say("|---|---|---|---|---|---|---|---|")
    normal = 0.0
    for load in (0.5, 1.0, 4.0):
        rate = load * capacity
        work = open_loop(
            client,
            scored.requests,
            rate=rate,
            seconds=arguments.load_seconds,
            seed=arguments.seed,
        )
        replies, megabytes = await watched(work, server.megabytes)
        good, shed = served(replies), [reply for reply in replies if reply.status == 503]
        report.say(
            f"| {load:g} x | {rate:.0f} | {len(good)} | {len(shed)} | {percentile(good, 50):.0f} | "
            f"{percentile(good, 99):.0f} | {percentile(shed, 50):.0f} | {max(megabytes):.0f} MB |"
        )
        check(report, scored, replies, f"{load:g} x")
        normal = normal or percentile(good, 50) / 1000
        if load == 4:
            report.promise(bool(shed), "four times the capacity: no request was shed")
        grown = max(megabytes) - before
        report.promise(grown < arguments.megabytes, f"{load:g} x: memory grew by {grown:.0f} MB")
    await recovery(report, client, scored, normal)
    client.close()


async def recovery(report: Report, client: Client, scored: Scored, normal: float) -> None:
    """Send single requests after an overload until five in a row take as long as before."""
    started, in_a_row, last = time.perf_counter(), 0, 0.0
    limit = 2 * normal + 0.02
    while in_a_row < 5 and time.perf_counter() < started + _RECOVERY_SECONDS:
        reply = await client.send(0, scored.requests[0])
        last = reply.seconds
        in_a_row = in_a_row + 1 if reply.status == 200 and last <= limit else 0
        await asyncio.sleep(0.05)
    report.promise(in_a_row == 5, f"no recovery: {1000 * last:.0f} ms")
    after = time.perf_counter() - started
    report.say(f"recovered: five in a row below {1000 * limit:.0f} ms {after:.1f} s after the load")


async def end(
    report: Report,
    arguments: argparse.Namespace,
    server: ServerProcess,
    scored: Scored,
    capacity: float,
) -> None:
    """End a server under load, and see what becomes of the requests."""
    client = Client(server.port)
    told = 0.0

    async def tell() -> None:
        nonlocal told
        await asyncio.sleep(1.5)
        told = time.perf_counter()
        server.terminate()

    telling = asyncio.create_task(tell())
    replies = await open_loop(
        client, scored.requests, rate=2 * capacity, seconds=3, seed=arguments.seed
    )
    await telling
    code = server.wait()
    client.close()
    before = [reply for reply in replies if reply.sent is not None and reply.sent < told]
    after = [reply for reply in replies if reply.sent is None or reply.sent >= told]
    check(report, scored, before, "sent before SIGTERM")
    cut = sum(reply.failure in ("cut off", "silent") for reply in after)
    report.promise(not cut, f"after SIGTERM: {cut} answers were cut off")
    report.promise(code == 0, f"after SIGTERM: exit code {code}")
    kinds = Counter(str(reply.status or reply.failure) for reply in after)
    report.say(
        f"SIGTERM at twice the capacity: {len(before)} requests sent before it, all answered: "
        f"{all(reply.status for reply in before)}; {len(after)} after it: "
        f"{', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}; exit code {code}"
    )


async def run(report: Report, arguments: argparse.Namespace, detector: Path) -> None:
    """Do all of it."""
    files = demo_pictures(_N_PICTURES, arguments.image_size, arguments.format)
    scored = Scored(detector, files, arguments.images)
    kilobytes = np.mean([len(file) for file in files]) / 1000
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    report.say(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load average {load}; "
        f"{arguments.format} of {arguments.image_size} x {arguments.image_size} pixels, "
        f"{kilobytes:.0f} KB"
    )
    with (
        ServerProcess(detector) as batching,
        ServerProcess(detector, "--batch-size", 1, "--batch-wait", 0) as single,
    ):
        servers = {"batching": batching, "--batch-size 1": single}
        capacity = await throughput(report, arguments, servers, scored)
        single.kill()
        await small_answers(report, batching)
        await latencies(report, arguments, batching, scored, capacity)
        await end(report, arguments, batching, scored, capacity)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    report.say(f"load average at the end {load}")


def main() -> int:
    """Return 0 if all promises were held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, help="default: MCM with the built-in encoder")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--format", choices=("JPEG", "PNG"), default="JPEG")
    parser.add_argument("--images", type=int, default=1, help="of a request")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn of throughput")
    parser.add_argument("--load-seconds", type=float, default=8.0, help="at each load")
    parser.add_argument("--megabytes", type=float, default=200.0, help="that memory may grow")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        detector = arguments.detector or fit_small(Path(folder))
        asyncio.run(run(report, arguments, detector))
    report.say("All promises were held." if not report.broken else f"{len(report.broken)} broken.")
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
