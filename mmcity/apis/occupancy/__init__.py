"""Occupancy around a car from its cameras, and generated clips of occupancy."""

from .occupancy_generator import GeneratedClips, OccupancyGenerator
from .occupancy_predictor import (
    OccupancyPredictor,
    OccupancyResult,
    load_gaussian_set,
    save_gaussian_set,
)

__all__ = [
    "GeneratedClips",
    "OccupancyGenerator",
    "OccupancyPredictor",
    "OccupancyResult",
    "load_gaussian_set",
    "save_gaussian_set",
]
