"""Info files of nuScenes: the shell of ``mmcity data nuscenes``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("nuscenes", "verbs.data")
