"""Metric3D's wrapper against golden vectors, with a stand-in for the network."""

import numpy as np
import torch
from torch import nn

from mmcity.models.foundation import Metric3D
from tests.conftest import golden_dir


class StandIn(nn.Module):
    """Depth = mean over channels + half the first channel."""

    def forward(self, x):
        return x.mean(1, keepdim=True) + 0.5 * x[:, :1]


def test_metric3d_wrapper():
    with np.load(golden_dir("gausstr") / "metric3d_wrapper.npz") as data:
        golden = {key: torch.from_numpy(data[key]) for key in data.files}
    model = Metric3D(StandIn(), golden["input_size"].tolist())
    args = golden["x"].float(), golden["cam2img"].float()
    torch.testing.assert_close(model(*args), golden["out"].squeeze(1), atol=1e-5, rtol=1e-4)
    # The golden augmentation scales by 0.04.
    aug = torch.diag(torch.tensor([0.04, 0.04, 1, 1])).expand(len(golden["x"]), 4, 4)
    torch.testing.assert_close(
        model(*args, aug), golden["out_aug"].squeeze(1), atol=1e-5, rtol=1e-4
    )
