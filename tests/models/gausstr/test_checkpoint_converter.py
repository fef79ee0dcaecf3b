"""Published checkpoints of GaussTR to this toolbox and back."""

import pytest
import torch
from mmengine.config import Config

from mmcity.engine.launch import load_config
from mmcity.registry import MODELS
from mmcity.utils import UserError, register_all_modules
from tests.cli.conftest import call_tool
from tests.conftest import REPO
from tests.models.gausstr.test_gausstr import model_config


@pytest.fixture
def small(tmp_path):
    """A config file, and what the original would have saved for it."""
    register_all_modules()
    Config({"model": model_config()}).dump(tmp_path / "small.py")
    torch.manual_seed(0)
    weights = MODELS.build(model_config()).state_dict()
    published = {k: v for k, v in weights.items() if not k.startswith("feature_basis.")}
    for i in range(2):
        # Old files hold the voxel centres in a row and no range.
        published[f"gauss_heads.{i}.voxelizer.grid_coords"] = torch.zeros(5, 3)
    torch.save({"state_dict": published, "meta": {"epoch": 20}}, tmp_path / "published.pth")
    return published


def run(tmp_path, source, target, *more):
    call_tool(
        "tools/model_converters/gausstr_to_mmcity.py", tmp_path / source, tmp_path / target,
        "--config", tmp_path / "small.py", *more,
    )  # fmt: skip
    return torch.load(tmp_path / target, weights_only=True)["state_dict"]


def test_there_and_back(small, tmp_path):
    ours = run(tmp_path, "published.pth", "ours.pth")
    model = MODELS.build(model_config())
    model.load_state_dict(ours)  # nothing is missing, nothing too much
    back = run(tmp_path, "ours.pth", "back.pth", "--reverse")
    added = {f"gauss_heads.{i}.voxelizer.vol_range" for i in range(2)}
    assert set(back) == set(small) | added
    for key, value in small.items():
        if ".voxelizer." not in key:
            torch.testing.assert_close(back[key], value, rtol=0, atol=0)
    voxelizer = model.gauss_heads[0].voxelizer
    centres = back["gauss_heads.0.voxelizer.grid_coords"]
    assert centres.shape == (*voxelizer.grid_shape, 3)
    half = voxelizer.voxel_size / 2
    torch.testing.assert_close(centres[0, 0, 0], torch.tensor(voxelizer.vol_range[:3]) + half)
    torch.testing.assert_close(centres[-1, -1, -1], torch.tensor(voxelizer.vol_range[3:]) - half)


def test_prototypes_come_from_a_file_of_their_own(small, tmp_path):
    del small["gauss_heads.1.text_proto_embeds"]
    torch.save({"state_dict": small}, tmp_path / "published.pth")
    with pytest.raises(UserError, match="missing: gauss_heads.1.text_proto_embeds"):
        run(tmp_path, "published.pth", "ours.pth")
    protos = torch.randn(small["gauss_heads.0.text_proto_embeds"].shape)
    torch.save(protos, tmp_path / "words.pth")
    ours = run(tmp_path, "published.pth", "ours.pth", "--text-protos", tmp_path / "words.pth")
    assert torch.equal(ours["gauss_heads.1.text_proto_embeds"], protos)


def test_weights_of_another_model_are_named(small, tmp_path):
    small["query_embeds.weight"] = torch.zeros(7, 16)
    small["head_of_another_model.weight"] = torch.zeros(1)
    torch.save({"state_dict": small}, tmp_path / "published.pth")
    with pytest.raises(UserError, match=r"extra: head_of_another[\s\S]*query_embeds.* \(7, 16\)"):
        run(tmp_path, "published.pth", "ours.pth")


def published_names(name):
    """Names in the published checkpoints, without the voxelizer's."""
    bare = ["query_embeds.weight"]
    both = [f"neck.scale_convs.{part}" for part in ("0.0", "0.1", "0.3", "1")]
    for i in range(4):
        for part in ("lateral", "fpn"):
            bare.append(f"neck.{part}_convs.{i}.conv.weight")
            both.append(f"neck.{part}_convs.{i}.norm_layer")
    for i in range(3):
        layer = f"decoder.layers.{i}"
        bare += [f"{layer}.self_attn.attn.in_proj_{kind}" for kind in ("weight", "bias")]
        both.append(f"{layer}.self_attn.attn.out_proj")
        parts = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
        both += [f"{layer}.cross_attn.{part}" for part in parts]
        both += [f"{layer}.{part}" for part in ("ffn.layers.0.0", "ffn.layers.1")]
        both += [f"{layer}.norms.{j}" for j in range(3)]
        heads = ["opacity", "feature", "scale", "regress"]
        heads += ["segment"] if name == "gausstr_featup" else []
        both += [f"gauss_heads.{i}.{head}_head.layers.{j}" for head in heads for j in (0, 1)]
        bare.append(f"gauss_heads.{i}.text_proto_embeds")
    both += [f"decoder.{part}" for part in ("ref_point_head.layers.0", "ref_point_head.layers.1")]
    both.append("decoder.norm")
    if name == "gausstr_talk2dino":  # the names of DINOv2's hub
        tokens = ("cls_token", "pos_embed", "register_tokens", "mask_token")
        bare += [f"backbone.{token}" for token in tokens]
        both += ["backbone.patch_embed.proj", "backbone.norm"]
        for i in range(12):
            block = f"backbone.blocks.{i}"
            parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
            both += [f"{block}.{part}" for part in parts]
            bare += [f"{block}.ls{j}.gamma" for j in (1, 2)]
    return {*bare, *(f"{name}.{kind}" for name in both for kind in ("weight", "bias"))}


@pytest.mark.parametrize("name", ["gausstr_featup", "gausstr_talk2dino"])
def test_published_configs_have_the_published_names(name):
    cfg = load_config(REPO / "configs" / "gausstr" / f"{name}.py")
    with torch.device("meta"):
        names = set(MODELS.build(cfg.model).state_dict())
    own = {key for key in names if key.startswith("feature_basis.")}
    assert names - own == published_names(name)
