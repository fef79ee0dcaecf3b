"""Checkpoints of RAPNet: the shell of ``mmcity convert-checkpoint rap``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("convert-checkpoint", words=["rap"])
