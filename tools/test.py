"""Test a model: the shell of ``mmcity test``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("test")
