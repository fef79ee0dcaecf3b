"""A model of a few thousand parameters in which every path is active."""

import torch

from mmcity.models.streamvggt import StreamVGGT

HEADS = {"features": 8, "out_channels": (4, 4, 8, 8), "layers": (0, 1, 1, 2)}
SIZES = {
    "aggregator": {
        "img_size": 42,
        "embed_dim": 32,
        "depth": 3,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "num_register_tokens": 2,
        "patch_embed": "conv",
        "layer_scale": 0.4,
    },
    "camera_head": {"trunk_depth": 2, "num_heads": 2, "mlp_ratio": 1.0, "layer_scale": 0.4},
    "depth_head": HEADS,
    "point_head": HEADS,
    "track_head": None,
}
TRACK_HEAD = {
    **HEADS,
    "iters": 2,
    "corr_levels": 2,
    "corr_radius": 1,
    "hidden_size": 16,
    "depth": 2,
    "num_virtual_tracks": 4,
}


def tiny_model(track: bool = False, kind: type = StreamVGGT, **kwargs) -> StreamVGGT:
    torch.manual_seed(0)
    sizes = dict(SIZES, track_head=TRACK_HEAD if track else None)
    model = kind(**{**sizes, **kwargs})
    torch.nn.init.normal_(model.aggregator.camera_token, std=0.3)
    torch.nn.init.normal_(model.aggregator.register_token, std=0.3)
    return model.eval()


def random_frames(frames: int, batch: int = 1, height: int = 28, width: int = 42) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, frames, 3, height, width, generator=generator)
