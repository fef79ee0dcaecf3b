"""Make a mesh of a scene: the shell of ``mmcity mesh``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("mesh")
