"""Run docs/quickstart.ipynb and store its outputs: `python tools/site/run_notebook.py`.

The tests run the notebook, too, and compare what it shows with what is stored.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "quickstart.ipynb"


def run(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run in a folder; raises if a cell fails."""
    # Progress bars and warnings about the machine are no part of what is shown.
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    content = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(content, timeout=120, kernel_name="python3", resources=resources).execute()
    for cell in content.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            # Beside a table in HTML, the same in Python's words has the paths of this machine.
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)
    return content


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        done = run(NOTEBOOK, Path(temporary))
    done.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(done, NOTEBOOK)
