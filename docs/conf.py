"""The site: `make docs`. Pages are Markdown; the references come from docstrings, and from what `--help` prints."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from api_names import defining_names  # noqa: E402 - found by the line above

project = "CellFluxRL"
author = "the authors of CellFluxRL"
html_title = "CellFluxRL"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "plain_docstrings",
    "cli_pages",
]
exclude_patterns = ["_build", "tutorials/*.ipynb", "tutorials/*.py"]
templates_path = ["_templates"]
highlight_language = "text"
suppress_warnings = ["config.cache"]  # the gallery's functions cannot be pickled

myst_heading_anchors = 3

autodoc_mock_imports = ["ray"]  # an extra that a build does not need
autosummary_context = {"public": {name: defining_names(name) for name in ("cellenv", "rewards", "algorithms")}}
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # or every `forward` would be explained as PyTorch explains it
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90
add_module_names = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples/tutorials",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "parallel": True,  # as many tutorials at once as `sphinx --jobs` says
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1,
    "write_computation_times": False,  # that page fetches scripts from elsewhere
}

viewcode_follow_imported_members = False  # an alias that is imported would lead from its source to another page
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
