"""Static parts of a toy town: streets, buildings, plants, vehicles, materials, classes."""

from .town import Instance, World, build_world, stream

__all__ = ["Instance", "World", "build_world", "stream"]
