"""Generate clips of semantic occupancy: the shell of ``mmcity generate``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("generate")
