"""The page, read once from the package."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

from starlette.responses import Response

_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


def read_page() -> dict[str, Response]:
    """Return the files of the page by the paths that they are served at."""
    folder = files("negrefine.serving") / "page"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        media_type = _TYPES.get(Path(file.name).suffix)
        if media_type is not None:
            data = file.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            headers = {"Cache-Control": "no-cache", "ETag": tag, "Content-Type": media_type}
            path = "/" if file.name == _INDEX else f"/static/{file.name}"
            found[path] = Response(data, headers=headers)
    return found
