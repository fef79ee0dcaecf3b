"""Look at results in the browser: the shell of ``mmcity viewer``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("viewer")
