"""Backbones that start from weights of ImageNet in the names of EfficientNet-PyTorch."""

import pytest
import torch

from mmcity.models.rap.checkpoint_keys import to_published
from mmcity.models.rap.rapnet import RAPNet
from mmcity.utils import UserError
from mmcity.utils.setup_env import register_all_modules

OPTIONS = dict(
    backbone=dict(width=0.25), hidden_dim=16, num_heads=2, feedforward_dim=16,
    num_encoder_layers=1, adaptation_channels=(4, 8),
)  # fmt: skip


@pytest.fixture
def published(tmp_path):
    """File of a backbone as it is published, with what a pose network does not need."""
    torch.manual_seed(1)
    state = RAPNet(**OPTIONS).state_dict()
    names = to_published(key for key in state if key.startswith("backbone."))
    content = {
        theirs.removeprefix("backbone.0.body."): torch.rand_like(state[ours].float())
        for ours, theirs in names.items()
    }
    content |= {"_fc.weight": torch.zeros(3), "_blocks.15._bn2.bias": torch.zeros(2)}
    torch.save(content, tmp_path / "efficientnet.pth")
    return tmp_path / "efficientnet.pth"


def test_backbone_starts_from_the_file(published):
    content = torch.load(published, weights_only=True)
    network = RAPNet(**OPTIONS, pretrained=str(published))
    with pytest.raises(ValueError, match=r"name its weights of ImageNet \(network.pretrained\)"):
        network.check_statistics()
    network.init_weights()
    network.check_statistics()
    own = network.backbone.state_dict()
    assert torch.equal(own["stem.weight"], content["_conv_stem.weight"])
    assert torch.equal(own["stem_norm.running_mean"], content["_bn0.running_mean"])
    theirs = content["_blocks.10._project_conv.weight"]
    assert torch.equal(own["blocks.10.project.weight"], theirs)


def test_other_weights_are_refused(published):
    content = torch.load(published, weights_only=True)
    content.pop("_conv_stem.weight")
    torch.save(content, published)
    with pytest.raises(ValueError, match=r"efficientnet\.pth: .* 1, such as stem\.weight"):
        RAPNet(**OPTIONS, pretrained=str(published)).init_weights()


def test_published_name_tells_how_to_get_it(tmp_path, monkeypatch):
    register_all_modules()
    monkeypatch.setenv("MMCITY_CACHE", str(tmp_path))
    network = RAPNet(**OPTIONS, pretrained="efficientnet_b0_imagenet")
    with pytest.raises(UserError, match="`mmcity weights get efficientnet_b0_imagenet`"):
        network.init_weights()
    monkeypatch.setenv("MMCITY_RANDOM_WEIGHTS", "1")
    network.init_weights()
    network.check_statistics()
