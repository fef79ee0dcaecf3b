"""Draw results and film scenes."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("visualize", "scripts")
