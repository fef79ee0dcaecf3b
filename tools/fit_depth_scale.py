"""Scales of depth priors: the shell of ``mmcity data fit-depth-scale``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("fit-depth-scale", "verbs.data")
