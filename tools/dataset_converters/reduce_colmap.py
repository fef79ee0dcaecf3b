"""Smaller copy of a COLMAP scene: the shell of ``mmcity data reduce-colmap``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("reduce-colmap", "verbs.data")
