"""Version of the toolbox."""

__version__ = "0.1.0"
