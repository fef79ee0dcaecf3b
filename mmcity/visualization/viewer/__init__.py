"""The viewer in a browser: files of every stage, training runs and live streams."""

from .files import Layer, UnknownFileError, open_layers
from .server import Viewer

__all__ = ["Layer", "UnknownFileError", "Viewer", "open_layers"]
