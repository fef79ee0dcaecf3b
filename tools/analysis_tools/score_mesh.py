"""Score a mesh or cloud."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("score_mesh", "scripts")
