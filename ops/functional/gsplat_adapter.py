"""``rasterization`` answered by an installed gsplat on CUDA, for comparison."""

from typing import Any

import torch
from torch import Tensor

UNSUPPORTED = "gsplat does not offer {0}; use implementation='mmcity'"


def rasterization_gsplat(
    means: Tensor, quats, scales, opacities, colors, viewmats, Ks, *, sh_degree, render_mode,
    masks, semantics, distributed, **options,
) -> tuple[Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    """Same arguments and results as :func:`mmcity_ops.rasterization`.

    Raises:
        RuntimeError: If gsplat is not installed, or the tensors are not on CUDA.
        ValueError: For arguments that gsplat has no counterpart of.
    """
    try:
        import gsplat
    except ImportError as error:
        raise RuntimeError(
            f"implementation='gsplat': expected the package gsplat, got '{error}': pip install "
            "gsplat"
        ) from error
    if not means.is_cuda:
        raise RuntimeError(f"implementation='gsplat': expected CUDA tensors, got {means.device}")
    refused = {
        "render_mode +N or +P": "N" in render_mode.split("+") or "P" in render_mode.split("+"),
        "masks": masks is not None,
        "semantics='inria'": semantics != "default",
        "a tile partition": distributed is not None,
    }
    for what, asked in refused.items():
        if asked:
            raise ValueError(UNSUPPORTED.format(what))
    if colors is not None and not isinstance(colors, Tensor):
        colors = torch.cat(tuple(colors), -2)
    if colors is None:  # depth modes ignore colours, but want a tensor
        colors = means.new_zeros((*means.shape[:-1], 1))
        sh_degree = None
    options.update(sh_degree=sh_degree, render_mode=render_mode)
    return gsplat.rasterization(means, quats, scales, opacities, colors, viewmats, Ks, **options)
