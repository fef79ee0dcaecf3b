"""Builds the reduced models that the golden vectors were made with."""

from pathlib import Path

import torch

from mmcity.models.streamvggt import VGGT, StreamVGGT


def load(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=True)


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


def golden_case(folder: Path, name: str, causal: bool = True) -> tuple[VGGT, dict]:
    """Model with the stored weights (loaded strictly) and the stored inputs and outputs."""
    vectors = load(folder, f"{name}_io.pt")
    model = build_model(vectors["config"], causal)
    model.load_state_dict(load(folder, f"{name}_state_dict.pt"), strict=True)
    return model, vectors
