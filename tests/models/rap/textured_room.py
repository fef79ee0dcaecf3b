"""A room with random textures on its walls, rendered exactly by casting rays."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from mmcity.structures import Cameras
from mmcity.structures.geometry import look_at

HALF = np.array([3.0, 2.0, 4.0])  # half edges in metres
_PIXELS_PER_METRE = 60


def _textures() -> dict:
    rng = np.random.RandomState(3)
    out = {}
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        shape = [int(2 * HALF[a] * _PIXELS_PER_METRE) + 1 for a in others]
        for side in (-1, 1):
            layers = [gaussian_filter(rng.standard_normal((*shape, 3)), (s, s, 0)) for s in (2, 8)]
            noise = sum(layer / layer.std() for layer in layers)
            out[axis, side] = np.clip(0.5 + 0.18 * noise, 0, 1)
    return out


_TEXTURES = _textures()


def room_camera(eye, target, width=160, height=120, focal=130.0) -> Cameras:
    viewmat = look_at(torch.tensor(eye).double(), torch.tensor(target).double())
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Cameras(torch.from_numpy(K), viewmat[None], width, height)


def render_room(camera: Cameras) -> dict[str, torch.Tensor]:
    width, height = camera.one_size()
    origins, directions = (r[0].double().numpy() for r in camera.to(torch.float64).rays())
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = (np.sign(directions) * HALF - origins) / directions  # (P, 3)
    hits[~np.isfinite(hits)] = np.inf
    axis = hits.argmin(1)
    points = origins + hits.min(1)[:, None] * directions
    colors = np.zeros((len(points), 3))
    for (wall, side), texture in _TEXTURES.items():
        mine = (axis == wall) & (np.sign(directions[:, wall]) == side)
        others = [a for a in range(3) if a != wall]
        at = (points[mine][:, others] + HALF[others]) * _PIXELS_PER_METRE
        for c in range(3):
            colors[mine, c] = map_coordinates(texture[..., c], at.T, order=1, mode="nearest")
    forward = camera.viewmats[0, 2, :3].double().numpy()
    depth = (points - origins) @ forward
    return {
        "rgb": torch.from_numpy(colors).float().reshape(height, width, 3).permute(2, 0, 1),
        "depth": torch.from_numpy(depth).float().reshape(height, width),
        "alpha": torch.ones(height, width),
    }
