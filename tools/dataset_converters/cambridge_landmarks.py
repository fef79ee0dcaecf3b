"""Cambridge Landmarks: the shell of ``mmcity data cambridge-landmarks``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("cambridge-landmarks", "verbs.data")
