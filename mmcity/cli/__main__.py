"""``python -m mmcity.cli``."""

from . import main

main()
