"""Metric frame of a COLMAP scene: the shell of ``mmcity data align-scene``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("align-scene", "verbs.data")
