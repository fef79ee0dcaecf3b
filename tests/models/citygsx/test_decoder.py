"""Networks of anchors in mixed precision, Gaussians in full."""

import torch

from mmcity.models.citygsx import AnchorDecoder
from tests.devices import DEVICE


def test_under_autocast_networks_alone_lose_precision():
    torch.manual_seed(0)
    decoder = AnchorDecoder(feat_dim=8, n_offsets=4)
    anchors = dict(
        positions=torch.randn(50, 3) + 1000.0,
        features=torch.randn(50, 8),
        offsets=torch.randn(50, 4, 3),
        log_scales=torch.zeros(50, 6),
        levels=torch.zeros(50),
        viewpoints=torch.zeros(3),
    )
    exact = decoder(**anchors)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = decoder(**anchors)
    for name in ("means", "colors", "opacities", "scales", "quats", "raw_opacities"):
        assert getattr(out, name).dtype == torch.float32
    difference = (out.raw_opacities - exact.raw_opacities).abs()
    assert 0 < difference.max() < 0.02
    both = out.kept & exact.kept
    rows = [both[x.kept] for x in (out, exact)]
    torch.testing.assert_close(out.means[rows[0]], exact.means[rows[1]], rtol=1e-6, atol=0)
