"""Binary COLMAP models, from the description of the format."""

import struct
from pathlib import Path

import numpy as np

from mmcity.structures.geometry import rotmat_to_quat, se3_inverse
from mmcity.utils.fileio import atomic_path

_PINHOLE = 1
#: Of a sparse point, pixels.
_ERROR = 0.5


def write_model(
    folder: Path,
    names: list[str],
    poses: np.ndarray,
    K: np.ndarray,
    size: tuple[int, int],
    points: np.ndarray,
    colors: np.ndarray,
) -> None:
    """Write ``cameras.bin``, ``images.bin`` and ``points3D.bin`` of pictures of one camera.

    Every point is seen by all pictures that it falls into.

    Args:
        folder: ``sparse/0``.
        names: Of the N pictures.
        poses: (N, 4, 4) camera to world.
        K: (3, 3) intrinsics.
        size: Width and height of the pictures.
        points: (P, 3) in the world.
        colors: (P, 3) uint8.
    """
    numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    camera = struct.pack("<QIiQQ4d", 1, 1, _PINHOLE, *size, *numbers)
    images = [struct.pack("<Q", len(names))]
    tracks: list[list[tuple[int, int]]] = [[] for _ in points]
    for number, (name, pose) in enumerate(zip(names, poses, strict=True), 1):
        viewmat = np.asarray(se3_inverse(pose))
        local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
        pixels = local @ K.T
        pixels = pixels[:, :2] / np.where(pixels[:, 2:] == 0, 1, pixels[:, 2:])
        seen = np.flatnonzero((local[:, 2] > 0) & ((pixels > 0) & (pixels < size)).all(axis=1))
        quat = np.asarray(rotmat_to_quat(viewmat[:3, :3]))
        images.append(struct.pack("<I7dI", number, *quat, *viewmat[:3, 3], 1))
        images.append(name.encode() + b"\0" + struct.pack("<Q", len(seen)))
        for place, point in enumerate(seen.tolist()):
            images.append(struct.pack("<2dq", *pixels[point], point + 1))
            tracks[point].append((number, place))
    kept = [row for row, track in enumerate(tracks) if len(track) >= 2]
    found = [struct.pack("<Q", len(kept))]
    for row in kept:
        rgb = colors[row].tolist()
        found.append(struct.pack("<Q3d3BdQ", row + 1, *points[row], *rgb, _ERROR, len(tracks[row])))
        found += [struct.pack("<2I", *entry) for entry in tracks[row]]
    files = {"cameras.bin": [camera], "images.bin": images, "points3D.bin": found}
    for name, parts in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(b"".join(parts))
