"""7-Scenes: the shell of ``mmcity data seven-scenes-sfm``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("seven-scenes-sfm", "verbs.data")
