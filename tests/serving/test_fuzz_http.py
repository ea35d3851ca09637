"""A slice of the fuzz of `benchmarks/fuzz/server.py`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from negrefine import Detector
from serving.processes import Zygote

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz" / "server.py"
Hosted = tuple[Path, dict[str, Detector]]


def test_malformed_requests_and_damaged_images_are_refused_in_a_sentence(
    zygote: Zygote, hosted: Hosted
) -> None:
    # A server of its own: warnings about pictures are in its log.
    server = zygote.start(hosted[0] / "csp", NEGREFINE_TOKEN="")
    server.wait_until_ready()
    hidden = ["--hidden", str(hosted[0]), "--hidden", hosted[0].name]
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
    # A fault has a name and a trace there.
    logged = server.err.read_text()
    assert "Fault" not in logged
    assert "Traceback" not in logged
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
