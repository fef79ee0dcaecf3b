"""Data samples: what travels between datasets, models and metrics.

Each is an mmengine ``BaseDataElement``: metainfo (names, sizes, indices) beside data fields
(tensors and containers) that ``.to(device)`` moves. The properties name the fields that are in
use everywhere; a system may set more.
"""

from collections.abc import Iterable
from typing import Any

from mmengine.structures import BaseDataElement
from torch import Tensor

from .cameras import Cameras
from .gaussians import Gaussians
from .trajectory import Trajectory


def _field(name: str, kind: type, doc: str) -> Any:
    """A property that stores a data field and checks its type."""
    key = f"_{name}"

    def get(self):
        return getattr(self, key)

    def put(self, value):
        self.set_field(value, key, dtype=kind)

    def remove(self):
        delattr(self, key)

    return property(get, put, remove, doc)


class SceneDataSample(BaseDataElement):
    """One posed image of a scene, and what was rendered for it.

    Metainfo set by the datasets: ``img_name``, ``img_path``, ``index`` (row in the dataset),
    ``camera_index`` (row among all images of the scene), ``split``, ``ori_shape``,
    ``img_shape`` (height, width), and ``frame`` where poses are not in the coordinates of the
    files.
    """

    camera = _field("camera", Cameras, "Cameras: One camera at the size of the image.")
    gt_image = _field("gt_image", Tensor, "Tensor: ``(3, H, W)``.")
    gt_mask = _field("gt_mask", Tensor, "Tensor: ``(H, W)`` bool, True where pixels count.")
    gt_depth = _field("gt_depth", Tensor, "Tensor: ``(H, W)`` z-depth in scene units, 0 = none.")
    pred_image = _field("pred_image", Tensor, "Tensor: ``(3, H, W)`` float in [0, 1].")
    pred_depth = _field("pred_depth", Tensor, "Tensor: ``(H, W)`` z-depth.")
    pred_alpha = _field("pred_alpha", Tensor, "Tensor: ``(H, W)`` accumulated opacity.")
    pred_normal = _field("pred_normal", Tensor, "Tensor: ``(3, H, W)`` unit normals.")
    gaussians = _field("gaussians", Gaussians, "Gaussians: What was rendered.")


class LocalizationDataSample(SceneDataSample):
    """An image whose pose is asked for. ``camera`` holds the true pose."""

    pred_camera = _field("pred_camera", Cameras, "Cameras: One camera at the estimated pose.")


class SequenceDataSample(BaseDataElement):
    """A video with poses and depth."""

    cameras = _field("cameras", Cameras, "Cameras: One per frame.")
    trajectory = _field("trajectory", Trajectory, "Trajectory: True path.")
    gt_depths = _field("gt_depths", Tensor, "Tensor: ``(T, H, W)`` metres, 0 = none.")
    pred_cameras = _field("pred_cameras", Cameras, "Cameras: One per frame.")
    pred_trajectory = _field("pred_trajectory", Trajectory, "Trajectory: Estimated path.")
    pred_depths = _field("pred_depths", Tensor, "Tensor: ``(T, H, W)``.")
    pred_points = _field("pred_points", Tensor, "Tensor: ``(T, H, W, 3)`` in the world.")


class OccupancyDataSample(BaseDataElement):
    """Labels of one frame ``(X, Y, Z)`` or clip ``(T, X, Y, Z)`` of occupancy."""

    gt_occupancy = _field("gt_occupancy", Tensor, "Tensor: True labels, integers.")
    invalid_mask = _field("invalid_mask", Tensor, "Tensor: True where metrics do not count.")
    pred_occupancy = _field("pred_occupancy", Tensor, "Tensor: Predicted labels.")

    @classmethod
    def predicted(
        cls, labels: Iterable[Tensor], samples: list["OccupancyDataSample"] | None = None
    ) -> list["OccupancyDataSample"]:
        """The given samples, or new ones, with labels ``(B, ...)`` as their predictions."""
        labels = list(labels)
        samples = [cls() for _ in labels] if samples is None else samples
        for sample, prediction in zip(samples, labels):
            sample.pred_occupancy = prediction
        return samples
