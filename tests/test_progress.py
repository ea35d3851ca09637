"""Progress where there is no terminal."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import time
import negrefine.progress as progress
progress.LONG_SECONDS = 0.2
for name, seconds, enabled in (("long", 0.3, True), ("short", 0, True), ("silent", 0.3, False)):
    with progress.progress_bar(f"Scoring {name}", 12_345, enabled=enabled) as advance:
        time.sleep(seconds)
        advance(12_345)
"""


def test_a_long_stage_leaves_one_line_in_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line == "Scoring long: 12,345 in 0 s"
