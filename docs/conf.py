"""Sphinx settings of the documentation (``make docs``)."""

from mmcity.version import __version__

project = "mmcity"
author = "The mmcity contributors"
release = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
myst_heading_anchors = 4
# Pages link to files of the repository (configs, sources) that are no pages.
suppress_warnings = ["myst.xref_missing"]
