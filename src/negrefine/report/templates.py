"""The templates of pages: escaping, and style sheets and scripts inside the page by their hash."""

from __future__ import annotations

import base64
import hashlib
from importlib import import_module
from importlib.resources import files
from typing import Any

from negrefine.errors import InputError
from negrefine.shown_text import visible


def check_report_packages() -> None:
    """Raise InputError unless the extra `report` is installed."""
    try:
        import_module("jinja2")
    except ImportError as error:
        raise InputError(
            "The HTML report needs Jinja2: pip install 'negrefine[report]'."
        ) from error


def template_environment() -> Any:
    """Return Jinja's environment for our templates, in which all other text is only shown."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    return Environment(
        loader=PackageLoader("negrefine.report", ""),
        autoescape=True,
        # Before it is escaped, all text from outside the template.
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Inline:
    """Files of this folder, one after the other, as the one style sheet or script of a page.

    Attributes:
        text: Their content, which a template does not escape.
        source: How a content security policy names it.
    """

    def __init__(self, *names: str) -> None:
        from markupsafe import Markup

        folder = files("negrefine.report")
        text = "".join((folder / name).read_text(encoding="utf-8") for name in names)
        self.text = Markup(text)  # noqa: S704 - our own files
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        self.source = f"sha256-{base64.b64encode(digest).decode('ascii')}"
