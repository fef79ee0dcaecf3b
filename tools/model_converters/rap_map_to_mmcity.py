"""Appearance maps of RAP: the shell of ``mmcity convert-checkpoint rap-map``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("convert-checkpoint", words=["rap-map"])
