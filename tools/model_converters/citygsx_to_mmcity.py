"""``point_cloud`` folders of CityGS-X: the shell of ``mmcity convert-checkpoint citygsx``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("convert-checkpoint", words=["citygsx"])
