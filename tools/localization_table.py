"""One table of localisation runs."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("localization-table", "scripts")
