"""mmcity: a config-driven toolbox for city-scale 3D and 4D scenes."""

from .version import __version__

__all__ = ["__version__"]
