"""Sphinx: README, docs/, notebooks and the reference from docstrings.

``sphinx-build -W --keep-going -c docs . build/site`` writes build/site/docs/index.html.
``sphinx-build -b linkcheck -c docs . build/links`` asks for every external link; it needs a network, and is no part of
the tests.
"""

from snnconvert.version import __version__

project = "snnconvert"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb"]
exclude_patterns = ["docs/conf.py"]

myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"snnconvert {release}"
linkcheck_anchors = False
linkcheck_timeout = 15
linkcheck_retries = 2
linkcheck_workers = 2
