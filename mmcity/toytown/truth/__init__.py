"""Exact answers about a toy town: boxes, occupancy, points, visibility, feature maps."""

__all__: list[str] = []
