"""What Sphinx leaves out: images in raw HTML, the page at the root, the last letter of `fpr_`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

_FIELD = re.compile(r"^(\s*:(?:ivar|vartype|param|type) \w+)_:")
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


def keep_underscores(*arguments: object) -> None:
    """Keep the last letter of fields such as `:ivar fpr_:`, which otherwise makes a reference."""
    lines = arguments[-1]
    if isinstance(lines, list):
        lines[:] = [_FIELD.sub(r"\1\_:", line) for line in lines]


def shown_signature(*arguments: object) -> tuple[str, str] | None:
    """Return a signature that can be read: defaults of dataclasses may be made by functions."""
    signature, returned = arguments[-2:]
    if not isinstance(signature, str) or "<factory>" not in signature:
        return None
    return signature.replace("<factory>", "..."), str(returned or "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the functions."""
    # After napoleon has made fields of the sections of a docstring.
    app.connect("autodoc-process-docstring", keep_underscores, priority=900)
    app.connect("autodoc-process-signature", shown_signature)
    app.connect("build-finished", copy_loose_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
