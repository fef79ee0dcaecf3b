"""Localise pictures in a map: the shell of ``mmcity localize``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("localize")
