"""CUDA operators against those of the CPU: inputs, comparisons and what such tests need."""

import pytest
import torch

from mmcity_ops.functional.intersection import tile_lists
from tests.ops.scene import random_scene

NEEDS_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.usefixtures("native"),
]
GEOMETRY = ("means", "quats", "scales", "viewmats")


def on(device, inputs, grads=()):
    """Copies on a device; those named in ``grads`` collect gradients."""
    return {
        key: value.detach().to(device).requires_grad_(key in grads)
        if isinstance(value, torch.Tensor)
        else value
        for key, value in inputs.items()
    }


def relative(got, want):
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    return float((got - want).norm() / want.norm().clamp_min(1e-12))


def compare(function, inputs, grads, *, l2=1e-3, atol=1e-4, outliers=0.0):
    """Outputs and gradients of ``function(inputs) -> tuple`` on both devices.

    ``outliers``: share of elements that may differ, where a threshold can flip by rounding.
    """
    results, leaves = {}, {}
    for device in ("cpu", "cuda"):
        leaves[device] = on(device, inputs, grads)
        results[device] = function(**leaves[device])
        floats = [x for x in results[device] if x is not None and x.requires_grad]
        if floats:
            weights = [torch.linspace(0.5, 1.5, x.numel()).view(x.shape) for x in floats]
            sum((x * w.to(device)).sum() for x, w in zip(floats, weights)).backward()
    for got, want in zip(results["cuda"], results["cpu"]):
        if want is None:
            assert got is None
        elif want.is_floating_point():
            off = (got.detach().cpu() - want.detach()).abs() > atol * max(
                1.0, float(want.detach().abs().max()) if want.numel() else 1.0
            )
            share = float(off.float().mean()) if want.numel() else 0.0
            assert share <= outliers, f"{share:.2%} of the elements differ"
        else:
            assert torch.equal(got.cpu(), want)
    for key in grads:
        assert relative(leaves["cuda"][key].grad, leaves["cpu"][key].grad) <= l2, key


def scene(**kwargs):
    inputs = random_scene(n=200, dtype=torch.float32, **kwargs)
    inputs["colors"] = inputs["colors"][:, 0].contiguous()
    return inputs


def projected(n=300, seed=0, channels=3, size=64):
    generator = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    sigma = rand(n, 2) * 6 + 0.7
    correlation = (rand(n) - 0.5) * 1.6
    xx, yy = sigma[:, 0] ** 2, sigma[:, 1] ** 2
    xy = correlation * sigma[:, 0] * sigma[:, 1]
    det = xx * yy - xy * xy
    return dict(
        means2d=rand(n, 2) * (size + 20) - 10,
        conics=torch.stack([yy / det, -xy / det, xx / det], -1),
        colors=rand(n, channels) - 0.3,
        opacities=rand(n) * 0.98 + 0.01,
        depths=rand(n) * 5 + 0.1,
        radii=(3.33 * sigma).ceil().to(torch.int32),
    )


def lists_of(rows, size=64, ts=16, **kwargs):
    tiles = -(-size // ts)
    return tile_lists(
        rows["means2d"][None], rows["radii"][None], rows["depths"][None], ts, tiles, tiles,
        conics=rows["conics"][None], opacities=rows["opacities"][None], **kwargs,
    )  # fmt: skip
