"""Convert scenes between formats: the shell of ``mmcity export``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("export")
