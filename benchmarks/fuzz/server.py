"""Malformed requests, damaged images and clients that dawdle, against a real server.

    python benchmarks/fuzz/server.py [--requests 5000] [--images 2000] [--schema 200] [--seed 0]

Starts `negrefine serve` on the loopback interface, or uses the one of --url. Then

- odd and malformed requests, byte by byte over a socket (`http_load/malformed.py` lists the kinds);
- mutated images of all formats that Pillow writes, alone and eight in a request;
- clients that stop in the middle of a request, while others are served;
- with --schema, what schemathesis makes of /openapi.json, if it is installed.

Every whole request gets an answer, none a 5xx but 503 with Retry-After, every refusal is a problem
of RFC 9457, none shows a path or a trace, and errors of images are sentences that name the image.
Exit code 1 otherwise. The same seed gives the same requests.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from http_load.client import form_of, post_of
from http_load.malformed import Case, cases
from http_load.process import ServerProcess, fit_small
from http_load.raw import Answer, converse

_HIDDEN = ("Traceback", "site-packages", 'File "', ".py", "/usr/", "/tmp/", "/home/", "/root/")  # noqa: S108
_BATCH = 8


def fault_of(answer: Answer, hidden: Sequence[str], *, head_only: bool = False) -> str | None:
    """Return what is wrong with an answer, None if it is as it should be."""
    status, headers = answer.status, answer.headers
    if status >= 500 and not (status == 503 and headers.get("retry-after", "").isdigit()):
        return f"status {status}"
    text = answer.body.decode("utf-8", "replace")
    if status >= 400:
        if headers.get("content-type") != "application/problem+json":
            return f"status {status} as {headers.get('content-type')!r}"
        if shown := [each for each in hidden if each in text]:
            return f"shows {shown}"
    if status >= 400 and not head_only:
        content = answer.json()
        if content["status"] != status or not str(content["detail"]).endswith("."):
            return f"no problem of RFC 9457: {text[:200]}"
    return None


class Fuzz:
    """Counts outcomes, and keeps what is wrong."""

    def __init__(self, port: int, hidden: Sequence[str]) -> None:
        self.port = port
        self.hidden = (*_HIDDEN, *hidden)
        self.faults: list[str] = []

    def fault(self, what: str) -> None:
        """Note and print something wrong."""
        self.faults.append(what)
        print(f"FAULT {what}", flush=True)

    def check_all(self, what: str, jobs: Sequence[Callable[[], tuple[str, str | None]]]) -> None:
        """Run jobs, four at a time; each returns an outcome, and what is wrong or None."""
        outcomes: Counter[str] = Counter()
        started = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            for outcome, wrong in pool.map(lambda job: job(), jobs):
                outcomes[outcome] += 1
                if wrong is not None:
                    self.fault(wrong)
        counts = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(outcomes.items()))
        seconds = time.monotonic() - started
        print(f"{outcomes.total():,} {what} in {seconds:.0f} s: {counts or 'none'}", flush=True)

    def requests(self, count: int, seed: int, picture: bytes) -> None:
        """Send odd requests."""
        made = [cases(number, seed, picture) for number in range(count)]
        self.check_all(
            "requests", [lambda n=n, c=c: self._request(n, c) for n, c in enumerate(made)]
        )

    def _request(self, number: int, case: Case) -> tuple[str, str | None]:
        heard = converse(
            self.port,
            case.pieces,
            expected=case.expected or 1,
            head_only=case.head_only,
            leaves=case.leaves,
            pause=case.pause,
        )
        where = f"request {number} ({case.name})"
        for answer in heard.answers:
            if wrong := fault_of(answer, self.hidden, head_only=case.head_only):
                return wrong, f"{where}: {wrong}"
        if heard.end in {"cut off", "silent"} or len(heard.answers) < case.expected:
            got = len(heard.answers)
            return "lost", f"{where}: {got} answers of {case.expected}, then {heard.end}"
        return str(heard.answers[0].status) if heard.answers else heard.end, None

    def images(self, count: int, seed: int) -> None:
        """Send mutated images, the last of every eight with the seven before it."""
        from images import mutated, seeds

        files = seeds()
        made = [
            (
                f"case {i} {files[i % len(files)][0]}",
                mutated(files[i % len(files)][1], _rng(seed, i)),
            )
            for i in range(count)
        ]
        groups = [made[i : i + 1] for i in range(count)]
        groups += [made[i : i + _BATCH] for i in range(0, count, _BATCH)]
        self.check_all("requests of images", [lambda g=group: self._images(g) for group in groups])

    def _images(self, group: Sequence[tuple[str, bytes]]) -> tuple[str, str | None]:
        heard = converse(self.port, [post_of("/v1/score", form_of(group))], patience=60)
        if not heard.answers:
            return "lost", f"{group[0][0]}: {heard.end}"
        (answer,) = heard.answers
        wrong = fault_of(answer, self.hidden)
        if wrong or answer.status not in (200, 422):
            return "wrong", f"{group[0][0]}: {wrong or answer.status}"
        rows: list[dict[str, Any]] = answer.json()["results" if answer.status == 200 else "errors"]
        if [row["name"] for row in rows] != [name for name, _ in group]:
            return "wrong", f"{group[0][0]}: other names or another order"
        for row in rows:
            error = row["error"]
            if error is None and answer.status == 200 and np.isfinite(row["score"]):
                continue
            if error is None or not error.startswith(row["name"]) or not error.endswith("."):
                return "wrong", f"{row['name']}: no sentence that names it: {row!r}"
            if shown := [each for each in self.hidden if each in error]:
                return "wrong", f"{row['name']}: shows {shown}: {error}"
        return str(answer.status), None

    def dawdlers(self, count: int, picture: bytes) -> None:
        """Score pictures while other clients have stopped in the middle of a request."""
        whole = post_of("/v1/score", form_of([("a.png", picture)]))
        with ExitStack() as stack:
            for i in range(count):
                slow = stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
                slow.sendall(whole[: (5, 60, len(whole) // 2, len(whole) - 1)[i % 4]])
            job = lambda: self._request(0, Case("beside dawdlers", (whole,)))  # noqa: E731
            self.check_all(f"requests beside {count} clients that dawdle", [job] * 20)

    def health(self) -> None:
        """See that the server is ready for more."""
        for path in ("/healthz", "/readyz", "/metrics"):
            get = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            heard = converse(self.port, [get])
            if [answer.status for answer in heard.answers] != [200]:
                self.fault(f"{path} at the end: {heard}")

    def schema(self, examples: int, seed: int) -> None:
        """Run schemathesis, if it is installed."""
        command = Path(sys.executable).parent / "schemathesis"
        if not command.exists():
            print("schemathesis is not installed: pip install schemathesis")
            return
        done = subprocess.run(
            [
                *(str(command), "run", f"http://127.0.0.1:{self.port}/openapi.json"),
                *("--max-examples", str(examples), "--seed", str(seed)),
                # Bytes at random are no pictures, which the schema cannot say.
                *("--exclude-checks", "positive_data_acceptance"),
                *("--suppress-health-check", "all", "--no-color"),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=tempfile.gettempdir(),
        )
        print(done.stdout.partition("= SUMMARY =")[2].strip("= \n"), flush=True)
        if done.returncode:
            self.fault(f"schemathesis:\n{done.stdout}{done.stderr}")


def _rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])


@contextmanager
def _server(
    arguments: argparse.Namespace,
) -> Iterator[tuple[int, Sequence[str], ServerProcess | None]]:
    """Yield the port of a server, what its answers must not show, and the server if it is ours."""
    if arguments.url:
        yield int(arguments.url.rstrip("/").rpartition(":")[2]), arguments.hidden, None
        return
    with tempfile.TemporaryDirectory(prefix="hidden-place-") as folder:
        detector = arguments.detector or fit_small(Path(folder))
        with ServerProcess(detector) as server:
            yield server.port, [str(detector.parent), *arguments.hidden], server


def main() -> int:
    """Return 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server on the loopback interface, without a token")
    parser.add_argument("--detector", type=Path, help="default: MCM with the built-in encoder")
    parser.add_argument(
        "--hidden", action="append", default=[], help="text that no answer may show"
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--dawdlers", type=int, default=100)
    parser.add_argument("--schema", type=int, default=0, metavar="EXAMPLES")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from http_load.pictures import demo_pictures

    (picture,) = demo_pictures(1, 64, "PNG")
    with _server(arguments) as (port, hidden, server):
        fuzz = Fuzz(port, hidden)
        before = server.megabytes() if server else 0.0
        fuzz.requests(arguments.requests, arguments.seed, picture)
        fuzz.images(arguments.images, arguments.seed)
        fuzz.dawdlers(arguments.dawdlers, picture)
        if arguments.schema:
            fuzz.schema(arguments.schema, arguments.seed)
        fuzz.health()
        if server:
            print(f"memory of the server: {before:.0f} MB, then {server.megabytes():.0f} MB")
            for line in server.log().splitlines():
                if "Fault" in line or "Error" in line:
                    fuzz.fault(f"log: {line}")
    print(f"{len(fuzz.faults)} faults")
    return int(bool(fuzz.faults))


if __name__ == "__main__":
    sys.exit(main())
