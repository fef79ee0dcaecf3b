"""Weights of VGGT and StreamVGGT: the shell of ``mmcity convert-checkpoint streamvggt``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("convert-checkpoint", words=["streamvggt"])
