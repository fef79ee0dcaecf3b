"""Tests of this folder need the virtual device, which ``tests/rig/run.py`` gives them."""

import sys

collect_ignore_glob = [] if "virtual_cuda" in sys.modules else ["*"]
