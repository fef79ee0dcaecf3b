"""Localise pictures in a map: the shell of ``mmcity localize``."""

from mmcity.cli import shell


def __getattr__(name: str) -> object:
    """Functions that stood here before they moved into the package."""
    from mmcity.apis.localization import queries

    return getattr(queries, name)


if __name__ == "__main__":
    shell("localize")
