"""A small random scene that the operator tests share."""

import math

import torch
from torch import Tensor

WIDTH, HEIGHT = 40, 28


def random_scene(
    n: int = 30, cameras: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0, sh: int = 4
) -> dict[str, Tensor]:
    """Gaussians in front of ``cameras`` cameras that look at them from two sides."""
    generator = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, generator=generator, dtype=dtype)  # noqa: E731
    views = []
    for index in range(cameras):
        angle = 0.2 * (index + 1)
        view = torch.eye(4, dtype=dtype)
        view[0, 0] = view[2, 2] = math.cos(angle)
        view[0, 2], view[2, 0] = math.sin(angle), -math.sin(angle)
        view[2, 3] = 4.0
        views.append(view)
    K = torch.tensor([[35.0, 0, 19.0], [0, 36.0, 15.0], [0, 0, 1]], dtype=dtype)
    return dict(
        means=(rand(n, 3) - 0.5) * 2,
        quats=rand(n, 4) - 0.5,
        scales=rand(n, 3) * 0.2 + 0.05,
        opacities=rand(n) * 0.8 + 0.1,
        colors=rand(n, sh, 3) - 0.5,
        viewmats=torch.stack(views),
        Ks=K.expand(cameras, 3, 3).clone(),
    )


def leaves(scene: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, collecting gradients (but the intrinsics)."""
    return {key: value.clone().requires_grad_(key != "Ks") for key, value in scene.items()}
