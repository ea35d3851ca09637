"""Running the command line in tests: in fresh processes, or forked from one that has torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NEGREFINE = [sys.executable, "-m", "negrefine"]


@dataclass(frozen=True)
class Done:
    """Exit code and output of a finished command."""

    code: int
    out: str
    err: str

    def failed(self) -> str:
        """Return the sentence of a command that failed as it should."""
        assert self.code == 1, self
        assert self.out == ""
        assert self.err.startswith("negrefine: error: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith((".\n", "names.\n")), self.err
        return self.err.removeprefix("negrefine: error: ").strip()


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> Done:
    """Run the command in a fresh interpreter."""
    done = subprocess.run(
        [*NEGREFINE, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


SERVER = """
import json, os, sys
import negrefine.cli
# What commands import when they need it takes seconds.
import negrefine.encoders.clip_model, negrefine.encoders.clipn, negrefine.encoders.loading
import negrefine.evaluation.experiment, negrefine.report.page
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(job["cwd"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["negrefine", *job["arguments"]]
        try:
            negrefine.cli.main()
        except SystemExit as end:
            # Tearing torch down would take most of the time.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """Runs each command in a process of its own, forked from one that has imported torch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: object, cwd: Path | None = None) -> Done:
        out, err = self._folder / "out", self._folder / "err"
        job = {"arguments": list(map(str, arguments)), "cwd": str(cwd or self._folder)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({**job, "out": str(out), "err": str(err)}) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return Done(code, out.read_bytes().decode(), err.read_bytes().decode())

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=20)
        assert self._server.stdout is not None
        self._server.stdout.close()
