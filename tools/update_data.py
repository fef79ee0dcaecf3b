"""Scene names in info files: the shell of ``mmcity data update``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("update", "verbs.data")
