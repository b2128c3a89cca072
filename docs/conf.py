"""The site of the docs (`make docs`): Markdown pages, and a reference made of docstrings and schemas at each build."""

from __future__ import annotations

import sys
from pathlib import Path

import weft

sys.path.append(str(Path(__file__).parent))
from make_reference import write_reference

project = "Weft"
author = copyright = "The Weft authors"
version = release = weft.__version__
html_theme = "furo"
html_title = f"Weft {release}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["site"]
myst_heading_anchors = 3
myst_fence_as_directive = ["toctree"]
default_role = "code"  # docstrings write `Name` for names
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# files of the repository are no pages of the site; tests/test_docs.py holds that every link leads somewhere
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]


def setup(app: object) -> None:
    write_reference(Path(__file__).parent / "reference")
