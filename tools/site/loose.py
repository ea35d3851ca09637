"""Files that Sphinx does not see: images in raw HTML, and the page at the root of the site."""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx

_ROOT_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>negrefine</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">negrefine</a>
"""


def copy_loose_files(app: Sphinx, exception: Exception | None) -> None:
    """Copy docs/images beside the pages that name them, and let the root lead to the start page."""
    if exception is None:
        out = Path(app.outdir)
        images = Path(app.srcdir) / "docs" / "images"
        shutil.copytree(images, out / "docs" / "images", dirs_exist_ok=True)
        (out / "index.html").write_text(_ROOT_PAGE, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the function."""
    app.connect("build-finished", copy_loose_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
