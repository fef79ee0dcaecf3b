"""Score saved renders."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("score_renders", "scripts")
