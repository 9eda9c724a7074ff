"""How `make docs` makes the pages: nothing is fetched, no notebook is run."""

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import crossattn  # noqa: E402

project = "crossattn"
author = "the authors of crossattn"
version = release = crossattn.__version__
repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "docstrings",
    "repository_links",
]
exclude_patterns = ["_ext"]
pages_of_files = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}

# Docstrings are Google's style; `code` in single backticks is a link where it names a public thing.
default_role = "public"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_preserve_defaults = True
autosummary_generate = False
toc_object_entries_show_parents = "hide"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

# Our own names have to be found; those of other libraries would have to be fetched.
nitpicky = True
# Signatures name classes that nobody makes: they have no pages.
nitpick_ignore_regex = [("py:(?!class).*", r"(?!crossattn\.).*"), ("py:class", ".*")]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

html_theme = "sphinx_book_theme"
html_title = "crossattn"
html_static_path = ["_static"]
html_css_files = ["crossattn.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "repository_url": repository,
    "use_repository_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],
}
