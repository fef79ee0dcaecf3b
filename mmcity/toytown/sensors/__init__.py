"""Cameras, lidar and their pictures of a toy town."""
