"""Print a config with everything it inherits."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("print-config", "scripts")
