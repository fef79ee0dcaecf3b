"""Render the views of a scene: the shell of ``mmcity render``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("render")
