"""Measure parts of the toolbox: a shell."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("benchmark", "scripts")
