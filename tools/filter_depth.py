"""Masks of depth priors: the shell of ``mmcity data filter-depth``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("filter-depth", "verbs.data")
