"""Make a toy town: the shell of ``mmcity data toytown``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("toytown", "verbs.data")
