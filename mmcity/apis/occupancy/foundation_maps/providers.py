"""Providers of maps of an image: published models, or the ground truth of a toy town."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, minimum_filter1d

from mmcity.datasets.io.info_pickle import InfoFileError
from mmcity.datasets.transforms.image_maps import splat_depth
from mmcity.toytown.truth.feature_maps import feature_map, segmentation_map
from mmcity.utils.device import device_at_hand
from mmcity.utils.fileio import to_json
from mmcity.utils.images import imagenet_normalized

from .tasks import ImageTask

#: How maps of each kind are stored.
STORED_DTYPES = {"depth": "float16", "features": "float16", "segmentation": "uint8"}


class TargetProvider(Protocol):
    """Makes the map of an image."""

    def __call__(self, image: np.ndarray, task: ImageTask) -> np.ndarray:
        """Map of an RGB image.

        Args:
            image: uint8 ``(H, W, 3)``.
            task: Its file, camera and lidar sweep.
        """


class _Metric3DProvider:
    def __init__(self, options: dict, device: str) -> None:
        from mmcity.models.foundation import Metric3D

        self.device = device
        self.model = Metric3D(**options).to(device).eval()

    def __call__(self, image: np.ndarray, task: ImageTask) -> np.ndarray:
        tensor = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        matrix = torch.as_tensor(task.cam2img, dtype=torch.float32, device=self.device)
        return self.model(imagenet_normalized(tensor), matrix[None])[0].cpu().numpy()


class _FeatUpProvider:
    def __init__(self, options: dict, device: str) -> None:
        from mmcity.models.foundation import FeatUpMaskCLIP

        self.device = device
        self.model = FeatUpMaskCLIP(**options).to(device).eval()

    def __call__(self, image: np.ndarray, task: ImageTask) -> np.ndarray:
        tensor = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        return self.model(tensor)[0].cpu().numpy()


class _GroundedSAM2Provider:
    def __init__(self, options: dict, device: str) -> None:
        from mmcity.models.foundation import GroundedSAM2

        self.model = GroundedSAM2(**options, device=device)

    def __call__(self, image: np.ndarray, task: ImageTask) -> np.ndarray:
        return self.model(image)


class _ToytownProvider:
    """Ground truth that the toy town's writer left in ``truth/``: depth and world classes.

    Options: ``root`` (the toy town's nuScenes folder) and, of features, ``patch`` and
    ``channels``.
    """

    def __init__(self, kind: str, options: dict) -> None:
        if "root" not in options:
            raise ValueError("options: expected root=DIR, the folder of the toy town, got none")
        self.kind = kind
        self.folder = Path(options["root"]) / "truth"
        if not self.folder.is_dir():
            raise FileNotFoundError(f"root: expected a toy town with {self.folder}, found none")
        self.patch = int(options.get("patch", 8))
        self.channels = int(options.get("channels", 64))

    def __call__(self, image: np.ndarray, task: ImageTask) -> np.ndarray:
        truth = np.load(self.folder / f"{task.name}.npz", allow_pickle=False)
        with truth:
            if self.kind == "depth":
                return truth["depth"]
            classes = truth["classes"]
            seed = truth["seed"]
        if self.kind == "segmentation":
            return segmentation_map(classes)
        return feature_map(classes, image, self.patch, self.channels, seed=seed.tolist())


class _LidarProvider:
    """Depth of the nearest lidar return in the image, for a try without a depth network.

    Above the highest returns lies the sky, at ``sky`` metres (option, 200 by default).
    """

    def __init__(self, options: dict, device: str) -> None:
        self.sky = float(options.get("sky", 200.0))

    def __call__(self, image: np.ndarray, task: ImageTask) -> np.ndarray:
        if task.lidar_path is None or task.lidar2cam is None:
            raise InfoFileError(f"{task.path}: expected a lidar sweep and 'lidar2cam', got none")
        points = np.fromfile(task.lidar_path, dtype="<f4").reshape(-1, 5)[:, :3]
        local = points.astype(np.float64) @ task.lidar2cam[:3, :3].T + task.lidar2cam[:3, 3]
        local = local[local[:, 2] > 0.5]
        pixels = local @ task.cam2img.T
        projected = np.column_stack([pixels[:, :2] / pixels[:, 2:] - 0.5, local[:, 2]])
        sparse = splat_depth(projected, image.shape[:2], (0.5, 200.0))
        rows, cols = distance_transform_edt(
            sparse == 0, return_distances=False, return_indices=True
        )
        dense = sparse[rows, cols]
        # A pixel whose nearest return lies well below it in a column without higher ones.
        highest = np.where(sparse.any(0), (sparse > 0).argmax(0), image.shape[0])
        top = minimum_filter1d(highest, size=max(image.shape[1] // 20, 3))
        dense[np.arange(image.shape[0])[:, None] < top[None] - image.shape[0] // 100] = self.sky
        return dense


_FACTORIES: dict[tuple[str, str], Callable[[dict, str], TargetProvider]] = {
    ("depth", "metric3d"): _Metric3DProvider,
    ("depth", "lidar"): _LidarProvider,
    ("features", "featup"): _FeatUpProvider,
    ("segmentation", "grounded_sam2"): _GroundedSAM2Provider,
    **{
        (kind, "toytown"): lambda options, device, kind=kind: _ToytownProvider(kind, options)
        for kind in STORED_DTYPES
    },
}


def find_provider(kind: str, model: str) -> Callable[[dict, str], TargetProvider]:
    """Factory of a provider, which takes its options and the device.

    Raises:
        ValueError: If there is no such model.
    """
    if (kind, model) not in _FACTORIES:
        known = sorted(name for of_kind, name in _FACTORIES if of_kind == kind)
        raise ValueError(f"{kind}: expected a model of {known}, got {model!r}")
    return _FACTORIES[kind, model]


def make_provider(
    kind: str, model: str, options: dict | None = None, device: str | None = None
) -> TargetProvider:
    """Build a provider.

    Args:
        kind: ``depth``, ``features`` or ``segmentation``.
        model: ``metric3d`` or ``lidar`` (depth), ``featup`` (features), ``grounded_sam2``
            (segmentation), or ``toytown`` (any).
        options: Arguments of the model, such as paths of weights. Defaults to none.
        device: Where it runs. Defaults to ``cuda`` where there is one, else ``cpu``.

    Raises:
        ValueError: If there is no such model, or options are missing.
    """
    factory, options = find_provider(kind, model), dict(options or {})
    try:
        return factory(options, device_at_hand(device))
    except TypeError as error:
        raise ValueError(
            f"options: expected what {model} takes, got {to_json(options)} ({error})"
        ) from error
