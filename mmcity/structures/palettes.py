"""Colours of classes: chosen so that all of them, and white, stay apart for every kind of eye.

Hues follow the things (green plants, grey roads, sandy ground). Distances in OKLab were made as
large as they go for normal sight and for each of the three kinds of dichromacy; kinds of
vehicles are shades about the vehicle's blue.
"""

_FREE = (255, 255, 255)
_BUILDING = (200, 131, 111)
_BARRIER = (120, 12, 26)
_OTHER = (97, 215, 178)
_PEDESTRIAN = (255, 105, 205)
_ROAD = (110, 108, 125)
_GROUND = (218, 179, 98)
_SIDEWALK = (191, 206, 255)
_VEGETATION = (32, 120, 0)
_VEHICLE = (10, 90, 250)
_BICYCLE = (241, 227, 39)

#: RGB of the unified classes 0..11.
UNIFIED_PALETTE = (
    _FREE,
    _BUILDING,
    _BARRIER,
    _OTHER,
    _PEDESTRIAN,
    (10, 12, 35),  # pole
    _ROAD,
    _GROUND,
    _SIDEWALK,
    _VEGETATION,
    _VEHICLE,
    _BICYCLE,
)

#: RGB of Occ3D-nuScenes labels 0..17.
OCC3D_NUSCENES_PALETTE = (
    _OTHER,
    _BARRIER,
    _BICYCLE,
    (40, 170, 200),  # bus
    _VEHICLE,  # car
    (33, 76, 103),  # construction vehicle
    (199, 200, 0),  # motorcycle
    _PEDESTRIAN,
    (240, 120, 0),  # traffic cone
    (91, 6, 166),  # trailer
    (5, 20, 90),  # truck
    _ROAD,
    (132, 107, 79),  # other flat ground
    _SIDEWALK,
    _GROUND,  # terrain
    _BUILDING,  # manmade
    _VEGETATION,
    _FREE,
)
