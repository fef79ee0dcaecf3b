"""Make depth priors of a scene."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("generate_depth", "scripts")
