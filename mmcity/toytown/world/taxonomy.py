"""One table from the classes of the toy town to the label sets of the benchmarks."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mmcity.utils.checks import check_choice


class WorldClass(IntEnum):
    """Classes of the world; sky means that no surface was hit."""

    SKY = 0
    ROAD = 1
    ROAD_LINE = 2
    SIDEWALK = 3
    TERRAIN = 4
    OTHER_FLAT = 5
    BUILDING = 6
    VEGETATION = 7
    TRUNK = 8
    POLE = 9
    TRAFFIC_LIGHT = 10
    TRAFFIC_SIGN = 11
    BARRIER = 12
    FENCE = 13
    TRAFFIC_CONE = 14
    OTHER = 15
    CAR = 16
    TRUCK = 17
    BUS = 18
    TRAILER = 19
    CONSTRUCTION_VEHICLE = 20
    BICYCLE = 21
    MOTORCYCLE = 22
    BICYCLIST = 23
    MOTORCYCLIST = 24
    PEDESTRIAN = 25


@dataclass(frozen=True)
class ClassRow:
    """Labels of one world class in each label set.

    Args:
        carlasc: Raw CarlaSC id (0-22).
        unified: The 11 unified classes, 0 is free.
        occ3d_nuscenes: Occ3D-nuScenes id (0-16, 17 is free).
        detection: nuScenes detection name, None for what is not detected.
        occ3d_waymo: Occ3D-Waymo id (0-14, 15 is free).
        semantickitti: Raw SemanticKITTI id.
        color: RGB for pictures of label maps.
    """

    carlasc: int
    unified: int
    occ3d_nuscenes: int
    detection: str | None
    occ3d_waymo: int
    semantickitti: int
    color: tuple[int, int, int]


_C = WorldClass
#: A bicycle and its rider are one object in nuScenes and one cyclist in Waymo.
TAXONOMY: dict[WorldClass, ClassRow] = {
    _C.SKY: ClassRow(0, 0, 17, None, 15, 0, (135, 180, 225)),
    _C.ROAD: ClassRow(7, 6, 11, None, 13, 40, (90, 90, 95)),
    _C.ROAD_LINE: ClassRow(6, 6, 11, None, 13, 60, (235, 235, 235)),
    _C.SIDEWALK: ClassRow(8, 8, 13, None, 14, 48, (190, 120, 200)),
    _C.TERRAIN: ClassRow(22, 7, 14, None, 14, 72, (150, 215, 110)),
    _C.OTHER_FLAT: ClassRow(14, 7, 12, None, 14, 49, (175, 160, 130)),
    _C.BUILDING: ClassRow(1, 1, 15, None, 10, 50, (200, 130, 95)),
    _C.VEGETATION: ClassRow(9, 9, 16, None, 11, 70, (40, 140, 50)),
    _C.TRUNK: ClassRow(9, 9, 16, None, 12, 71, (110, 75, 40)),
    _C.POLE: ClassRow(5, 5, 15, None, 6, 80, (150, 150, 150)),
    _C.TRAFFIC_LIGHT: ClassRow(18, 5, 15, None, 5, 99, (250, 170, 30)),
    _C.TRAFFIC_SIGN: ClassRow(12, 5, 15, None, 3, 81, (220, 220, 0)),
    _C.BARRIER: ClassRow(17, 2, 1, "barrier", 0, 52, (120, 60, 60)),
    _C.FENCE: ClassRow(2, 2, 15, None, 0, 51, (160, 110, 110)),
    _C.TRAFFIC_CONE: ClassRow(19, 5, 8, "traffic_cone", 7, 99, (255, 100, 0)),
    _C.OTHER: ClassRow(19, 3, 0, None, 0, 99, (80, 110, 110)),
    _C.CAR: ClassRow(10, 10, 4, "car", 1, 10, (0, 60, 220)),
    _C.TRUCK: ClassRow(10, 10, 10, "truck", 1, 18, (0, 120, 220)),
    _C.BUS: ClassRow(10, 10, 3, "bus", 1, 13, (0, 180, 220)),
    _C.TRAILER: ClassRow(10, 10, 9, "trailer", 1, 20, (70, 150, 180)),
    _C.CONSTRUCTION_VEHICLE: ClassRow(10, 10, 5, "construction_vehicle", 1, 20, (200, 180, 40)),
    _C.BICYCLE: ClassRow(10, 11, 2, "bicycle", 8, 11, (180, 20, 60)),
    _C.MOTORCYCLE: ClassRow(10, 11, 6, "motorcycle", 9, 15, (120, 0, 60)),
    _C.BICYCLIST: ClassRow(4, 11, 2, None, 4, 31, (255, 60, 120)),
    _C.MOTORCYCLIST: ClassRow(4, 11, 6, None, 4, 32, (230, 0, 150)),
    _C.PEDESTRIAN: ClassRow(4, 4, 7, "pedestrian", 2, 30, (255, 0, 0)),
}


def label_map(target: str) -> np.ndarray:
    """Lookup table from world class to the ids of one label set.

    Args:
        target: ``'carlasc'``, ``'unified'``, ``'occ3d_nuscenes'``, ``'occ3d_waymo'`` or
            ``'semantickitti'``.

    Returns:
        np.ndarray: (26,) uint8, so that ``label_map(t)[classes]`` maps an array.

    Raises:
        ValueError: If the label set is unknown.
    """
    known = ("carlasc", "unified", "occ3d_nuscenes", "occ3d_waymo", "semantickitti")
    check_choice("target", target, known)
    return np.array([getattr(TAXONOMY[c], target) for c in WorldClass], dtype=np.uint8)


def nuscenes_detection_name(cls: int) -> str | None:
    """nuScenes detection name of a world class; None where it has none."""
    return TAXONOMY[WorldClass(cls)].detection
