"""The documentation as a site: `make docs` writes it to site/, and it works from file://.

The root of the sources is that of the repository, so that links between docs/, CONTRIBUTING.md and
the cards of the encoders are the same on the site and where the repository is read. The pages are
in the lists at the end of docs/index.md; one that is in none of them fails the build.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "src"), str(HERE)]

from negrefine import __all__ as _public  # noqa: E402, F401 - fails here without the package

project = "negrefine"
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "NOTICE.md"),
    "src/negrefine/encoders/*/CARD.md",
    "src/negrefine/benchmarks/data/SOURCES.md",
]
# Not even walked through.
exclude_patterns = [
    ".*",
    "site",
    "build",
    "dist",
    "demo-results",
    "tests",
    "benchmarks",
    "src/negrefine/labels",
]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "notebook_source",
    "loose",
]
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline", "html_image"]

# Docstrings write names as Markdown does.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "negrefine"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
