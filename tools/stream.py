"""Reconstruct a stream: the shell of ``mmcity stream``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("stream")
