"""Exact answers about a toy town: boxes, occupancy, points, visibility, feature maps."""
