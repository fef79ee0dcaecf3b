"""Every parameter name and shape of the 1B model, on the meta device."""

import pytest
import torch

from mmcity.models.streamvggt import VGGT, StreamVGGT

NUM_ENTRIES = 1797
NUM_PARAMETERS = 1_256_537_516
PARTS = {
    "aggregator.patch_embed": 304_372_736,
    "aggregator.frame_blocks": 302_364_672,
    "aggregator.global_blocks": 302_364_672,
    "aggregator.camera_token": 2_048,
    "aggregator.register_token": 8_192,
    "camera_head": 216_174_610,
    "point_head": 32_654_628,
    "depth_head": 32_654_562,
    "track_head": 65_941_396,
}


def affine(name: str, weight: tuple, bias: bool = True) -> dict:
    table = {f"{name}.weight": weight}
    if bias:
        table[f"{name}.bias"] = weight[:1]
    return table


def block(name: str, dim: int, hidden: int, head_dim: int | None = None) -> dict:
    table = {f"{name}.{ls}.gamma": (dim,) for ls in ("ls1", "ls2")}
    for norm in ("norm1", "norm2"):
        table |= affine(f"{name}.{norm}", (dim,))
    table |= affine(f"{name}.attn.qkv", (3 * dim, dim)) | affine(f"{name}.attn.proj", (dim, dim))
    table |= affine(f"{name}.mlp.fc1", (hidden, dim)) | affine(f"{name}.mlp.fc2", (dim, hidden))
    for norm in ("q_norm", "k_norm") if head_dim else ():
        table |= affine(f"{name}.attn.{norm}", (head_dim,))
    return table


def dense_head(name: str, features: int, output_dim: int | None) -> dict:
    channels = (256, 512, 1024, 1024)
    table = affine(f"{name}.norm", (2048,))
    for level, out in enumerate(channels):
        table |= affine(f"{name}.projects.{level}", (out, 2048, 1, 1))
        table[f"{name}.scratch.layer{level + 1}_rn.weight"] = (features, out, 3, 3)
        net = f"{name}.scratch.refinenet{level + 1}"
        table |= affine(f"{net}.out_conv", (features, features, 1, 1))
        for unit in (1, 2) if level < 3 else (2,):
            for conv in (1, 2):
                shape = (features, features, 3, 3)
                table |= affine(f"{net}.resConfUnit{unit}.conv{conv}", shape)
    for level, kernel in ((0, 4), (1, 2), (3, 3)):
        size = channels[level]
        table |= affine(f"{name}.resize_layers.{level}", (size, size, kernel, kernel))
    first = features if output_dim is None else features // 2
    table |= affine(f"{name}.scratch.output_conv1", (first, features, 3, 3))
    if output_dim is not None:
        table |= affine(f"{name}.scratch.output_conv2.0", (32, 128, 3, 3))
        table |= affine(f"{name}.scratch.output_conv2.2", (output_dim, 32, 1, 1))
    return table


def tracker(name: str) -> dict:
    table = {f"{name}.query_ref_token": (1, 2, 388)}
    table |= affine(f"{name}.corr_mlp.fc1", (384, 567)) | affine(f"{name}.corr_mlp.fc2", (128, 384))
    for norm in ("fmap_norm", "ffeat_norm"):
        table |= affine(f"{name}.{norm}", (128,))
    table |= affine(f"{name}.ffeat_updater.0", (128, 128))
    for predictor in ("vis_predictor", "conf_predictor"):
        table |= affine(f"{name}.{predictor}.0", (1, 128))
    former = f"{name}.updateformer"
    table[f"{former}.virual_tracks"] = (1, 64, 1, 384)
    table |= affine(f"{former}.input_norm", (388,)) | affine(f"{former}.output_norm", (384,))
    table |= affine(f"{former}.input_transform", (384, 388))
    table |= affine(f"{former}.flow_head", (130, 384))
    for kind in ("time", "space_virtual", "space_point2virtual", "space_virtual2point"):
        is_cross = "2" in kind
        for index in range(6):
            one = f"{former}.{kind}_blocks.{index}"
            for norm in ("norm1", "norm2", *(["norm_context"] if is_cross else [])):
                table |= affine(f"{one}.{norm}", (384,))
            attn = f"{one}.{'cross_attn' if is_cross else 'attn'}"
            table[f"{attn}.in_proj_weight"] = (1152, 384)
            table[f"{attn}.in_proj_bias"] = (1152,)
            table |= affine(f"{attn}.out_proj", (384, 384))
            table |= affine(f"{one}.mlp.fc1", (1536, 384)) | affine(f"{one}.mlp.fc2", (384, 1536))
    return table


def published_table() -> dict[str, tuple]:
    """Names and shapes of the published checkpoints, written out from their description."""
    table = {
        "aggregator.camera_token": (1, 2, 1, 1024),
        "aggregator.register_token": (1, 2, 4, 1024),
        "aggregator.patch_embed.cls_token": (1, 1, 1024),
        "aggregator.patch_embed.pos_embed": (1, 1370, 1024),
        "aggregator.patch_embed.register_tokens": (1, 4, 1024),
        "aggregator.patch_embed.mask_token": (1, 1024),
        "camera_head.empty_pose_tokens": (1, 1, 9),
    }
    table |= affine("aggregator.patch_embed.patch_embed.proj", (1024, 3, 14, 14))
    table |= affine("aggregator.patch_embed.norm", (1024,))
    for index in range(24):
        table |= block(f"aggregator.patch_embed.blocks.{index}", 1024, 4096)
        table |= block(f"aggregator.frame_blocks.{index}", 1024, 4096, 64)
        table |= block(f"aggregator.global_blocks.{index}", 1024, 4096, 64)
    for index in range(4):
        table |= block(f"camera_head.trunk.{index}", 2048, 8192)
    for norm in ("token_norm", "trunk_norm"):
        table |= affine(f"camera_head.{norm}", (2048,))
    table |= affine("camera_head.embed_pose", (2048, 9))
    table |= affine("camera_head.poseLN_modulation.1", (6144, 2048))
    table |= affine("camera_head.pose_branch.fc1", (1024, 2048))
    table |= affine("camera_head.pose_branch.fc2", (9, 1024))
    table |= dense_head("point_head", 256, 4) | dense_head("depth_head", 256, 2)
    table |= dense_head("track_head.feature_extractor", 128, None)
    return table | tracker("track_head.tracker")


@pytest.mark.parametrize("kind", [VGGT, StreamVGGT])
def test_keys_and_shapes(kind):
    with torch.device("meta"):
        state = kind().state_dict()
    expected = published_table()
    actual = {name: tuple(value.shape) for name, value in state.items()}
    assert actual == expected
    assert len(state) == NUM_ENTRIES
    assert sum(value.numel() for value in state.values()) == NUM_PARAMETERS


def test_parts_and_trainable_share():
    frozen = ["aggregator.patch_embed", "aggregator.camera_token", "aggregator.register_token"]
    with torch.device("meta"):
        model = StreamVGGT(frozen_parts=frozen)
    for part, count in PARTS.items():
        own = [p.numel() for name, p in model.named_parameters() if name.startswith(part)]
        assert sum(own) == count, part
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 952_154_540


def test_unknown_frozen_part_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="patch_embedding"):
        VGGT(frozen_parts=["aggregator.patch_embedding"])
