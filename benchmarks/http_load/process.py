"""`negrefine serve` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil


class ServerProcess:
    """A running server; as a context manager it is ended with the block.

    Attributes:
        url: Where it serves, without a slash at the end.
        port: On the loopback interface.
    """

    def __init__(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        patience: float = 120,
    ) -> None:
        """Start it with these arguments and wait until it serves.

        Raises RuntimeError with what it printed if it ends, or does not serve in time.
        """
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "negrefine", "serve", *map(str, arguments), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env=None if environment is None else {**os.environ, **environment},
        )
        self.url = ""
        until = time.monotonic() + patience
        while not self.url:
            ready = [line for line in self.out().splitlines() if line.startswith("Serving ")]
            if ready:
                self.url = ready[0].rpartition(" on ")[2].rstrip("/")
            elif self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"The server does not serve:\n{self.out()}{self.log()}")
            else:
                time.sleep(0.05)
        self.port = int(self.url.rpartition(":")[2])
        self._memory = psutil.Process(self.process.pid)

    def out(self) -> str:
        """Return what it has printed."""
        return _content(self._out.fileno())

    def log(self) -> str:
        """Return what it has printed to the standard error."""
        return _content(self._err.fileno())

    def megabytes(self) -> float:
        """Return its resident memory now, in MB."""
        return float(self._memory.memory_info().rss) / 1e6

    def cpu_seconds(self) -> float:
        """Return the seconds of processors that it has used."""
        times = self._memory.cpu_times()
        return float(times.user + times.system)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 60) -> int:
        """Return its exit code; subprocess.TimeoutExpired if it goes on."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._out.close()
        self._err.close()


def _content(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode("utf-8", "replace")


def fit_small(folder: Path) -> Path:
    """Fit MCM with the built-in encoder on the class names of the demo; return its directory."""
    from negrefine import MCM, load_encoder
    from negrefine.benchmarks.bundled import demo_class_names, demo_images

    detector = MCM(load_encoder("builtin", device="cpu", cache=False)).fit(demo_class_names())
    detector.calibrate([image.path for image in demo_images() if image.class_name][::4], fpr=0.1)
    detector.save(folder / "small")
    return folder / "small"
