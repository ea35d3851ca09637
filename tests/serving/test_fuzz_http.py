"""A slice of the fuzz of `benchmarks/fuzz/server.py`, against a server of three detectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from serving.processes import Server

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz" / "server.py"


def test_malformed_requests_and_damaged_images_are_refused_in_a_sentence(server: Server) -> None:
    before = server.err.read_text()
    hidden = [argument for each in server.hidden for argument in ("--hidden", each)]
    command = [sys.executable, str(SCRIPT), "--url", server.url, *hidden]
    counts = ["--requests", "176", "--images", "96", "--dawdlers", "24", "--seed", "1"]
    done = subprocess.run([*command, *counts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, images, beside, last = done.stdout.splitlines()
    assert first.startswith("176 requests in ")
    # All kinds of outcome were seen, so that the requests are as odd as they should be.
    assert {" 200", " 400", " 404", " 405", " 413", " 415", " 422"} <= {
        f" {word}" for word in first.replace(",", "").split()
    }, first
    assert images.startswith("108 requests of images in ")
    assert beside.endswith(": 20 200")
    assert last == "0 faults"
    # Warnings about pictures are the operator's to read; a fault has a name and a trace.
    logged = server.err.read_text()
    assert logged.startswith(before)
    assert "Fault" not in logged
    assert "Traceback" not in logged
