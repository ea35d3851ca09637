"""Notebooks as pages: cells with the outputs that are stored in them.

Outputs in HTML come from negrefine's own `_repr_html_`, which escapes what it shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx


class NotebookParser(MystParser):  # type: ignore[misc] - myst_parser has no types
    """Reads a notebook as the Markdown of its cells and outputs."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse the notebook into the document."""
        name = Path(document["source"]).name
        super().parse(markdown_of(json.loads(inputstring), name), document)


def markdown_of(notebook: dict[str, Any], name: str) -> str:
    """Return the page of a notebook, with a link to the file below its first cell."""
    first, *rest = map(_cell, notebook["cells"])
    link = f"[Download this notebook](path:{name}) to run it yourself."
    return "\n\n".join([first, link, *rest]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _printed("".join(output["text"]))
    data = output["data"]
    if "text/html" in data:
        html = "".join(data["text/html"])
        # A blank line would end the block of HTML.
        lines = "\n".join(line for line in html.splitlines() if line.strip())
        return f'<div class="notebook-output">\n{lines}\n</div>'
    if "image/png" in data:
        image = "".join(data["image/png"]).replace("\n", "")
        source = f"data:image/png;base64,{image}"
        return f'<div class="notebook-output">\n<img alt="The picture" src="{source}">\n</div>'
    return _printed("".join(data["text/plain"]))


def _printed(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the parser."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}
