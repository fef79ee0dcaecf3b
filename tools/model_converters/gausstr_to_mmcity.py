"""Checkpoints of GaussTR: the shell of ``mmcity convert-checkpoint gausstr``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("convert-checkpoint", words=["gausstr"])
