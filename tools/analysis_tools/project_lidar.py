"""Draw lidar returns over camera images."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("project-lidar", "scripts")
