"""Opening a page in a browser, where somebody sits at a terminal and has one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def open_page(page: Path) -> bool:
    """Open a file in the browser, and return whether one was started.

    Nothing happens in a pipe, in continuous integration ($CI), over SSH, or without a display
    unless $BROWSER names a browser: no text browser takes the terminal unasked.
    """
    if not (sys.stdout.isatty() and sys.stdin.isatty()) or os.environ.get("CI"):
        return False
    if not os.environ.get("BROWSER"):
        here = sys.platform in {"darwin", "win32"} or bool(
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        )
        if not here or os.environ.get("SSH_CONNECTION"):
            return False
    import webbrowser

    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False
