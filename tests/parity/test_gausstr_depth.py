"""Metric3D's wrapper against golden vectors, with a stand-in for the network."""

import torch
from torch import nn

from mmcity.models.foundation import Metric3D
from tests.parity._golden import Golden, vectors


class StandIn(nn.Module):
    """Depth = mean over channels + half the first channel."""

    def forward(self, x):
        return x.mean(1, keepdim=True) + 0.5 * x[:, :1]


@vectors("metric3d_wrapper", "gausstr")
def test_metric3d_wrapper(path):
    golden = Golden(path, torch.float32)
    model = Metric3D(StandIn(), golden["input_size"].tolist())
    args = golden["x"], golden["cam2img"]
    torch.testing.assert_close(model(*args), golden["out"].squeeze(1), atol=1e-5, rtol=1e-4)
    scale = golden.scalar("aug_scale")
    aug = torch.diag(torch.tensor([scale, scale, 1, 1])).expand(len(golden["x"]), 4, 4)
    torch.testing.assert_close(
        model(*args, aug), golden["out_aug"].squeeze(1), atol=1e-5, rtol=1e-4
    )
