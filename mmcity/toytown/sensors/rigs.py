"""Sensors of a nuScenes car: six cameras round the roof and a lidar above them."""

from dataclasses import dataclass

import numpy as np

#: Size of nuScenes' images in pixels, width and height.
FULL_SIZE = (1600, 900)

#: Name: (heading in degrees from forward to the left, focal length, principal point in pixels
#: of the full size, position in the ego frame in metres). Mounted level; values of a real car,
#: rounded.
_CAMERAS = {
    "CAM_FRONT": (0.0, 1266.0, (816.0, 491.0), (1.70, 0.00, 1.51)),
    "CAM_FRONT_RIGHT": (-56.4, 1261.0, (808.0, 495.0), (1.55, -0.49, 1.50)),
    "CAM_FRONT_LEFT": (55.2, 1273.0, (827.0, 480.0), (1.52, 0.49, 1.51)),
    "CAM_BACK": (180.0, 809.0, (829.0, 482.0), (0.03, 0.00, 1.58)),
    "CAM_BACK_LEFT": (108.6, 1257.0, (792.0, 493.0), (1.04, 0.48, 1.59)),
    "CAM_BACK_RIGHT": (-110.8, 1260.0, (807.0, 501.0), (1.01, -0.48, 1.56)),
}

#: The lidar's x axis looks to the right of the car, y forward, z up.
LIDAR_TO_EGO = np.array([[0.0, 1, 0, 0.94], [-1, 0, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1]])


@dataclass(frozen=True)
class RigCamera:
    """A camera of the rig.

    Attributes:
        name: Channel.
        K: (3, 3) intrinsics in pixels.
        cam_to_ego: (4, 4), OpenCV axes to x forward, y left, z up.
        width: Pixels.
        height: Pixels.
    """

    name: str
    K: np.ndarray
    cam_to_ego: np.ndarray
    width: int
    height: int


def nuscenes_rig(image_size: tuple[int, int] = FULL_SIZE) -> list[RigCamera]:
    """The six cameras at an image size (width, height), in the order of nuScenes' info files."""
    sx, sy = image_size[0] / FULL_SIZE[0], image_size[1] / FULL_SIZE[1]
    rig = []
    for name, (heading, focal, (cx, cy), position) in _CAMERAS.items():
        K = np.array([[focal * sx, 0, cx * sx], [0, focal * sy, cy * sy], [0, 0, 1]])
        c, s = np.cos(np.radians(heading)), np.sin(np.radians(heading))
        pose = np.eye(4)
        # Columns: image right, image down, viewing direction.
        pose[:3, :3] = np.array([[s, 0, c], [-c, 0, s], [0, -1, 0]])
        pose[:3, 3] = position
        rig.append(RigCamera(name, K, pose, *image_size))
    return rig
