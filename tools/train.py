"""Train a model: the shell of ``mmcity train``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("train")
