"""Version of the toolbox."""

__version__ = "0.2.0.dev0"
