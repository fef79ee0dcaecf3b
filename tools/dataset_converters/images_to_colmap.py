"""Scene from a folder of pictures: the shell of ``mmcity data images-to-colmap``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("images-to-colmap", "verbs.data")
