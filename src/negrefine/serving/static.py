"""The page, read once from the package."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.responses import Response

_INDEX = "index.html"
_TYPES = {
    _INDEX: "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def read_page() -> dict[str, Response]:
    """Return the files of the page by the paths that they are served at."""
    folder = files("negrefine.serving") / "page"
    found = {}
    for name, media_type in _TYPES.items():
        file = folder / name
        if file.is_file():
            data = file.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            headers = {"Cache-Control": "no-cache", "ETag": tag, "Content-Type": media_type}
            path = "/" if name == _INDEX else f"/static/{name}"
            found[path] = Response(data, headers=headers)
    return found
