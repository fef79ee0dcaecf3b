"""The one feed-forward part against torch's own modules."""

import pytest
import torch
from torch import nn

from mmcity.models.layers import Mlp


@pytest.mark.parametrize("keys", [None, ("layers.0.0", "layers.1")], ids=["plain", "nested"])
def test_it_equals_a_chain_of_torch_modules_in_training(keys):
    torch.manual_seed(0)
    mlp = Mlp(3, 5, 2, keys=keys, activation=nn.functional.relu, dropout=0.3)
    assert [name for name, _ in mlp.named_parameters()] == [
        f"{key}.{part}" for key in keys or ("fc1", "fc2") for part in ("weight", "bias")
    ]
    first, second = mlp.linears
    chain = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.3), second, nn.Dropout(0.3))
    x = torch.randn(64, 3)
    for part in (mlp.train(), mlp.eval()):
        chain.train(part.training)
        torch.manual_seed(1)
        wanted = chain(x)
        torch.manual_seed(1)
        torch.testing.assert_close(part(x), wanted, rtol=0, atol=0)


def test_any_number_of_layers_with_gelu_between():
    mlp = Mlp(3, 5, 4, 2)
    a, b, c = mlp.linears
    x = torch.randn(7, 3)
    gelu = nn.GELU()
    torch.testing.assert_close(mlp(x), c(gelu(b(gelu(a(x))))), rtol=0, atol=0)
