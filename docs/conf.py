"""Sphinx reads the repository's Markdown as it stands: ``make docs``.

The source folder is the root of the repository, so that a link that works in a checkout works on
the site. What is linked in the lists of `docs/index.md` and of the pages below is the contents.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from sphinx.application import Sphinx

from titer import __version__

project = "titer"
author = "The titer authors"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "studies/**.md",
    "benchmarks/**.md",
    "examples/own_model/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [
    ".*",
    ".venv",
    "**/.venv",
    "runs",
    "own",
    "dist",
    "src",
    "tests",
    "requirements",
]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
html_title = f"titer {__version__}"
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

CONTENTS = {"docs/index", "docs/decisions/README", "studies/README", "benchmarks/README"}
"""Pages whose lists or tables of links are the contents of the site."""


def contents(markdown: str) -> str:
    """A hidden table of contents for each section of ``markdown``, from the links in it."""
    found: list[str] = []
    listed: set[str] = set()
    for section in re.split(r"^##? ", markdown, flags=re.M)[1:]:
        title, _, text = section.partition("\n")
        pages = [
            str(PurePosixPath(target).with_suffix(""))
            for line in re.findall(r"^(?:- |\| ).*", text, flags=re.M)
            for target in re.findall(r"\]\(([^)#:]+\.md)\)", line)
        ]
        new = [page for page in dict.fromkeys(pages) if page not in listed]
        listed.update(new)
        if new:
            lines = ["```{toctree}", ":hidden:", f":caption: {title.strip()}", "", *new, "```"]
            found.append("\n".join(lines))
    return "\n\n".join(found)


def _add_contents(_app: Sphinx, page: str, source: list[str]) -> None:
    if page in CONTENTS:
        source[0] += "\n\n" + contents(source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_contents)
