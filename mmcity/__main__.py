"""``python -m mmcity`` is the command ``mmcity``."""

from mmcity.cli import main

main()
