"""Measure how generated clips change over time: a shell."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("clip_consistency", "scripts")
