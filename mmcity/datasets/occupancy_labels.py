"""Label sets of occupancy benchmarks and their reduction to the 12 unified classes."""

import numpy as np

UNIFIED_CLASSES = (
    *("free", "building", "barrier", "other", "pedestrian", "pole"),
    *("road", "ground", "sidewalk", "vegetation", "vehicle", "bicycle"),
)

#: Raw CarlaSC ids 0..22 (free, building, fence, other, pedestrian, pole, road line, road,
#: sidewalk, vegetation, vehicle, wall, traffic sign, sky, ground, bridge, rail track,
#: guard rail, traffic light, static, dynamic, water, terrain).
CARLASC_TO_UNIFIED = (0, 1, 2, 3, 4, 5, 6, 6, 8, 9, 10, 2, 5, 3, 7, 3, 3, 2, 5, 3, 3, 3, 7)

#: Voxels per raw CarlaSC id in the 32,400 training frames.
CARLASC_FREQUENCIES = (
    *(3763643297, 39644538, 8417042, 362221, 546581, 2265328, 3319457, 184640959),
    *(105036782, 20811569, 9942710, 18401902, 96415, 0, 6995101, 538555),
    *(4313, 8965598, 66443, 3009867, 2982851, 234650, 66806621),
)

#: Occ3D-Waymo ids 0..14 (general object, vehicle, pedestrian, sign, cyclist, traffic light,
#: pole, construction cone, bicycle, motorcycle, building, vegetation, tree trunk, road,
#: walkable), then free: documented as 15, 23 in released files, so everything above 14.
OCC3D_WAYMO_TO_UNIFIED = (3, 10, 4, 5, 11, 5, 5, 5, 11, 11, 1, 9, 9, 6, 8) + (0,) * 241

OCC3D_NUSCENES_CLASSES = (
    *("others", "barrier", "bicycle", "bus", "car", "construction_vehicle"),
    *("motorcycle", "pedestrian", "traffic_cone", "trailer", "truck", "driveable_surface"),
    *("other_flat", "sidewalk", "terrain", "manmade", "vegetation", "free"),
)

#: Occ3D-nuScenes ids 0..17, 17 = free.
OCC3D_NUSCENES_TO_UNIFIED = (3, 2, 11, 10, 10, 10, 11, 4, 5, 10, 10, 6, 7, 8, 7, 1, 9, 0)

#: The 20 SemanticKITTI training ids (0 empty, 1 car .. 19 traffic sign).
SEMANTICKITTI_TO_UNIFIED = (0, *(10,) * 5, 4, 4, 4, 6, 7, 8, 7, 1, 2, 9, 9, 7, 5, 5)


def remap_labels(labels: np.ndarray, table: tuple[int, ...], source: str = "labels") -> np.ndarray:
    """Look labels up in a table.

    Args:
        labels: Integer labels, any shape.
        table: New label of each old one.
        source: Named in the error, a file for instance.

    Returns:
        uint8, same shape.

    Raises:
        ValueError: If a label is not in the table.
    """
    lookup = np.asarray(table, dtype=np.uint8)
    if labels.size and (int(labels.max()) >= len(lookup) or int(labels.min()) < 0):
        raise ValueError(
            f"{source}: expected labels of 0..{len(lookup) - 1}, got {int(labels.max())}"
        )
    return lookup[labels]
