"""Progress on a terminal, and where there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress

import pytest

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


TERMINAL = """
from negrefine.progress import progress_bar
with progress_bar("Encoding [/b][red] \\x1b]0;owned\\x07\\x9b\\n", 2, enabled=True) as advance:
    advance(2)
"""


def on_terminal(code: str) -> str:
    """Return what a program writes to a terminal, without rich's colours, moves and cursor."""
    import pty

    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", code], stderr=child, check=True, env=environment)
    os.close(child)
    written = b""
    with suppress(OSError):
        while chunk := os.read(parent, 65536):
            written += chunk
    os.close(parent)
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", b"", written).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of POSIX")
def test_a_terminal_obeys_no_description() -> None:
    text = on_terminal(TERMINAL)
    assert text.count(r"Encoding [/b][red] \x1b]0;owned\x07\x9b\x0a ") >= 1
    assert text.isprintable()


WHOLE = """
import sys
from negrefine.progress import progress_bar, whole_work
counts = []
def embed(description, n, weight, known=0):
    with progress_bar(description, n, enabled=True, weight=weight) as advance:
        advance.drop(known)
        with advance.shared(n - known):
            # What the encoder does; it need not say anything.
            with progress_bar("Inside", 4, enabled=False) as inner:
                for _ in range(4):
                    inner()
                    counts.append(round(bars.tasks[0].completed))
import negrefine.progress as progress
with whole_work("Fitting", lambda: 100 * 8 + 50 * 4, enabled=True):
    bars = progress._drawn.get()
    embed("Mining nouns", 100, 8, known=20)
    embed("Mining adjectives", 50, 4)
    with progress_bar("Asking", 3, enabled=True, unit="questions") as advance:
        advance(3)
sys.stderr.write(f"<{counts}>")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of POSIX")
def test_the_stages_of_a_whole_advance_one_bar_little_by_little() -> None:
    text = on_terminal(WHOLE)
    assert "<[160, 320, 480, 640, 690, 740, 790, 840]>" in text
    assert re.search(r"Mining adjectives ━+ 840/840 +0:00:00", text)
    assert re.search(r"Asking +━+ 3/3 +", text)
    assert "Inside" not in text
