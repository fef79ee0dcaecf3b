"""Builds the reduced models that the golden vectors were made with."""

from pathlib import Path

import torch

from mmcity.models.streamvggt import VGGT, StreamVGGT


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def build_model(config: dict, causal: bool = True, **kwargs) -> VGGT:
    """A model with the sizes in the ``config`` entry of a vector file."""
    aggregator = dict(config["aggregator"])
    heads = dict(config["dpt_head"])
    heads["layers"] = heads.pop("intermediate_layer_idx")
    track = config["track_head"]
    if track is not None:
        track = dict(track, out_channels=heads["out_channels"], layers=heads["layers"])
    kind = StreamVGGT if causal else VGGT
    model = kind(
        aggregator=aggregator,
        camera_head=config["camera_head"],
        depth_head=heads,
        point_head=heads,
        track_head=track,
        **kwargs,
    )
    return model.eval()


def golden_case(path: Path, causal: bool = True) -> tuple[VGGT, dict]:
    """Model with the stored weights (loaded strictly) and the inputs and outputs of ``path``."""
    vectors = load(path)
    model = build_model(vectors["config"], causal)
    weights = path.with_name(path.name.removesuffix("_io.pt") + "_state_dict.pt")
    model.load_state_dict(load(weights), strict=True)
    return model, vectors
