"""Sphinx builds the site from the Markdown files of the repository, where they are: `make docs`.

The source folder is the root of the repository, so that a link that works on GitHub works on the site.
"""

import sys
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs/site")]

project = "volvae"
author = "volvae authors"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "docstrings",
    "gallery",
    "mathml",
    "settings",
]
root_doc = "docs/index"
source_suffix = {".md": "markdown", ".py": "markdown"}  # a script of the gallery is a page: see gallery.py
include_patterns = [
    "*.md",
    "deploy/**.md",
    "docs/**.md",
    "examples/*.md",
    "examples/**.py",
]
# Folders in which there is nothing to read, so that nobody looks.
exclude_patterns = [
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("deploy", "docs", "examples")
]
exclude_patterns.append("deploy/demo/bundle.md")  # the model card of a bundle, which the explorer shows

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
default_role = "code"
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"volvae {release}"
html_static_path = ["static"]
html_css_files = ["volvae.css"]
html_additional_pages = {"index": "forward.html"}
templates_path = ["templates"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
html_theme_options = {"sidebar_hide_name": False, "top_of_page_buttons": []}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
pygments_style = "a11y-high-contrast-light"  # as others are too faint on grey
pygments_dark_style = "github-dark"
suppress_warnings = ["config.cache"]


def with_decisions(app: Sphinx, docname: str, source: list[str]) -> None:
    """The page of decisions lists them in the side bar too; on GitHub its table is enough."""
    if docname == "docs/decisions/README":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", with_decisions)
