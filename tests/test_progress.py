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


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of POSIX")
def test_a_terminal_obeys_no_description() -> None:
    import pty

    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", TERMINAL], stderr=child, check=True, env=environment)
    os.close(child)
    written = b""
    with suppress(OSError):
        while chunk := os.read(parent, 65536):
            written += chunk
    os.close(parent)
    # What rich writes itself: colours, moves and the cursor.
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", b"", written).decode()
    assert text.count(r"Encoding [/b][red] \x1b]0;owned\x07\x9b\x0a ") >= 1
    assert text.isprintable()
