"""A digital twin of a place: ``python projects/city_twin/run.py CONFIG``."""

import sys
from pathlib import Path

from mmcity.cli import shell

if __name__ == "__main__":
    # Stages of one's own may lie under projects/, named in custom_imports of the config.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    shell("city-twin", "scripts")
