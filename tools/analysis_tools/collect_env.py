"""Print what a bug report has to say: the shell of ``mmcity info``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("info")
