"""The main job on real input, then on the toy town: the shell of ``mmcity demo``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("demo")
