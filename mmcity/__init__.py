"""mmcity: a config-driven toolbox for city-scale 3D and 4D scenes."""

import importlib.util

from .compat.moved_modules import enable_moved_modules
from .version import __version__

__all__ = ["__version__"]

enable_moved_modules()
# Without mmengine the check of the dependencies still has to be importable.
if importlib.util.find_spec("mmengine") is not None:
    from .utils.setup_env import enable_config_package

    enable_config_package()
