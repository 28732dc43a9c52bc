"""The documentation site; ``make docs`` builds it into docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from pyimgano import __version__

project = "pyimgano"
author = "The pyimgano developers"
copyright = "the pyimgano developers, Apache-2.0"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "generated",
]
exclude_patterns = ["_build", "sessions"]
default_role = "py:obj"
nitpicky = True
# Names of other projects and plain words in docstrings are no links; ours must lead somewhere.
nitpick_ignore_regex = [(r"py:.*", r"(?!pyimgano\.).*")]

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"pyimgano {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"source_repository": "", "top_of_page_buttons": []}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
