"""Inferencers: one class per task."""

from .occupancy_generator import OccupancyGenerator

__all__ = ["OccupancyGenerator"]
