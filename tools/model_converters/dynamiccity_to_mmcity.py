"""Checkpoints of DynamicCity: the shell of ``mmcity convert-checkpoint dynamiccity``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("convert-checkpoint", words=["dynamiccity"])
