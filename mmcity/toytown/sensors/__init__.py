"""Cameras, lidar and their pictures of a toy town."""

__all__: list[str] = []
