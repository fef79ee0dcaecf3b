"""Data sets as they are published, and folders of pictures, to what the datasets read."""

from .cambridge_landmarks import convert_cambridge_landmarks
from .film_frames import FilmFrames, is_film, sharpness, take_frames
from .images_to_colmap import MappedScene, map_pictures
from .nuscenes import convert_nuscenes
from .reduce_colmap import ReducedScene, reduce_scene
from .scene_names import add_scene_names
from .seven_scenes_sfm import convert_seven_scenes

__all__ = [
    "FilmFrames",
    "MappedScene",
    "ReducedScene",
    "add_scene_names",
    "convert_cambridge_landmarks",
    "convert_nuscenes",
    "convert_seven_scenes",
    "is_film",
    "map_pictures",
    "reduce_scene",
    "sharpness",
    "take_frames",
]
