"""Sends each browser the cells of a scene that its camera needs."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmcity.structures import GaussianLodTree, Gaussians, select_cells

#: viser packs covariances as float16: longer axes would overflow.
_MAX_SCALE = 200.0
_MIN_OPACITY = 0.5 / 255
_DEFAULT_HEIGHT = 720
#: Cells beside the picture are kept fine up to this much more than the half angle of view.
_ANGLE_MARGIN = 1.3


def splat_arrays(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """``centers``, ``covariances``, ``rgbs`` and ``opacities`` as viser wants them.

    Gaussians that cannot be seen are left out; colours are the mean over all directions.
    """
    g = gaussians.detach().cpu().to(torch.float32)
    colors = g.colors
    if colors is None:
        has_colors = g.features is not None and g.features.shape[1] == 3
        colors = g.features if has_colors else torch.full_like(g.means, 0.6)
    seen = (g.opacities > _MIN_OPACITY) & g.is_finite
    g, colors = g[seen], colors[seen]
    g.scales = g.scales.clamp_max(_MAX_SCALE)
    return {
        "centers": g.means.numpy(),
        "covariances": g.covariances.numpy(),
        "rgbs": colors.clamp(0, 1).numpy(),
        "opacities": g.opacities[:, None].numpy(),
    }


class LodStream:
    """The cells of one scene in the browsers that look at it.

    Args:
        name: Of the layer.
        tree: Cells.
        budget: Function that gives the number of Gaussians each browser may hold.
        max_error: Function that gives the error in px that needs no finer cell.
    """

    def __init__(
        self,
        name: str,
        tree: GaussianLodTree,
        budget: Callable[[], int],
        max_error: Callable[[], float],
    ) -> None:
        self.name, self.tree = name, tree
        self.budget, self.max_error = budget, max_error
        self.visible = True
        self._handles: dict[int, dict[int, Any]] = {}
        self._arrays: dict[int, dict[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    def update(self, client) -> int:
        """Bring one browser up to date; returns the number of Gaussians it holds."""
        with self._lock:
            wanted = set(self._select(client.camera)) if self.visible else set()
            handles = self._handles.setdefault(client.client_id, {})
            with client.atomic():
                for number in wanted - set(handles):
                    handles[number] = client.scene.add_gaussian_splats(
                        f"/{self.name}/{number}", **self._arrays_of(number)
                    )
                for number in set(handles) - wanted:
                    handles.pop(number).remove()
            return sum(len(self.tree.cells[number].gaussians) for number in wanted)

    def forget(self, client_id: int) -> None:
        """A browser has gone."""
        with self._lock:
            self._handles.pop(client_id, None)

    def remove(self) -> None:
        """Take the scene out of all browsers."""
        with self._lock:
            for handles in self._handles.values():
                for handle in handles.values():
                    handle.remove()
            self._handles.clear()

    def _select(self, camera) -> list[int]:
        height = camera.image_height or _DEFAULT_HEIGHT
        half_fov = camera.fov / 2
        focal = height / 2 / math.tan(half_fov)
        half_angle = math.atan(math.tan(half_fov) * math.hypot(1, camera.aspect))
        w, x, y, z = camera.wxyz
        forward = torch.tensor(
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]
        )  # third column of the camera's rotation
        return select_cells(
            self.tree,
            torch.as_tensor(np.asarray(camera.position)),
            focal,
            self.budget(),
            self.max_error(),
            forward,
            half_angle * _ANGLE_MARGIN,
        )

    def _arrays_of(self, number: int) -> dict[str, np.ndarray]:
        if number not in self._arrays:
            self._arrays[number] = splat_arrays(self.tree.cells[number].gaussians)
        return self._arrays[number]
