"""Removing lens distortion with OpenCV."""

import functools

import numpy as np

from mmcity.datasets.io.colmap_types import ColmapCamera
from mmcity.registry import TRANSFORMS
from mmcity.structures import Cameras

from .base import BaseTransform

#: From pixel centres at +0.5 (ours) to whole numbers (OpenCV's).
_HALF = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def _is_fisheye(camera: ColmapCamera) -> bool:
    return "FISHEYE" in camera.model


def _distorted(camera: ColmapCamera, points: np.ndarray) -> np.ndarray:
    """OpenCV pixels of normalised, undistorted points ``(N, 2)``."""
    import cv2

    K = camera.K - _HALF
    if _is_fisheye(camera):
        return cv2.fisheye.distortPoints(points[:, None], K, camera.distortion).reshape(-1, 2)
    rays = np.concatenate([points, np.ones((len(points), 1))], 1)
    return cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, camera.distortion)[0].reshape(-1, 2)


def undistorted_K(camera: ColmapCamera) -> np.ndarray:
    """Intrinsics at the same size for which every pixel of the new picture is covered.

    The focal lengths grow by the least common factor that keeps the border of the new picture
    inside the old one; the principal point stays.

    Raises:
        ValueError: If no factor up to 4 does, or OpenCV lacks the model.
    """
    camera.distortion  # noqa: B018 (raises for models without OpenCV counterpart)
    width, height = camera.width, camera.height
    x, y = np.linspace(0, width - 1, 64), np.linspace(0, height - 1, 64)
    border = np.concatenate(
        [
            np.stack([x, np.zeros(64)], 1),
            np.stack([x, np.full(64, height - 1.0)], 1),
            np.stack([np.zeros(64), y], 1),
            np.stack([np.full(64, width - 1.0), y], 1),
        ]
    )
    K = camera.K - _HALF

    def is_covered(zoom: float) -> bool:
        focal = np.array([K[0, 0], K[1, 1]]) * zoom
        pixels = _distorted(camera, (border - K[:2, 2]) / focal)
        slack = 0.01
        inside = (pixels >= -slack) & (pixels <= np.array([width, height]) - 1 + slack)
        return bool(inside.all())

    low, high = 0.5, 4.0
    if not is_covered(high):
        raise ValueError(
            f"camera {camera.camera_id} ({camera.model}): expected a distortion that leaves a "
            f"picture, got {camera.distortion.tolist()}: undistort with COLMAP"
        )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if is_covered(middle) else (middle, high)
    out = camera.K.copy()
    out[0, 0] *= high
    out[1, 1] *= high
    return out


@functools.lru_cache(maxsize=4)
def _maps(model: str, width: int, height: int, params: tuple[float, ...]):
    """New intrinsics and the remap tables of one camera."""
    import cv2

    camera = ColmapCamera(0, model, width, height, np.array(params))
    new_K = undistorted_K(camera)
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    centre, focal = (new_K - _HALF)[:2, 2], np.array([new_K[0, 0], new_K[1, 1]])
    points = (np.stack([x, y], -1).reshape(-1, 2) - centre) / focal
    table = _distorted(camera, points).reshape(height, width, 2).astype(np.float32)
    return cv2.convertMaps(table, None, cv2.CV_16SC2)


@functools.lru_cache(maxsize=4096)
def _new_K(model: str, width: int, height: int, params: tuple[float, ...]) -> np.ndarray:
    return undistorted_K(ColmapCamera(0, model, width, height, np.array(params)))


@TRANSFORMS.register_module()
class UndistortPosedImage(BaseTransform):
    """Make a pinhole picture of one with lens distortion.

    Takes ``colmap_camera`` (at the size of the file) and leaves pictures without distortion
    alone. Image and depth are resampled bilinearly, masks by the nearest value.
    """

    @staticmethod
    def _key(camera: ColmapCamera) -> tuple:
        return camera.model, camera.width, camera.height, tuple(camera.params.tolist())

    def update_camera(self, results: dict) -> dict:
        """Undistort only the camera."""
        source = results["colmap_camera"]
        if not source.is_pinhole:
            old: Cameras = results["camera"]
            results["camera"] = Cameras(
                _new_K(*self._key(source))[None], old.viewmats, *old.one_size()
            )
        return results

    def transform(self, results: dict) -> dict:
        """See the class."""
        import cv2

        source = results["colmap_camera"]
        if source.is_pinhole:
            return results
        results = self.update_camera(results)
        maps = _maps(*self._key(source))
        methods = {"img": cv2.INTER_LINEAR, "mask": cv2.INTER_NEAREST, "depth": cv2.INTER_NEAREST}
        for key, method in methods.items():
            if key in results:
                value = results[key]
                if value.shape[:2] != (source.height, source.width):
                    raise ValueError(
                        f"{results['img_path']}: expected {key} of {source.width}x{source.height} "
                        f"to undistort it, got {value.shape[1]}x{value.shape[0]}"
                    )
                results[key] = cv2.remap(
                    value, *maps, method, borderMode=cv2.BORDER_REPLICATE
                ).reshape(value.shape)
        return results
