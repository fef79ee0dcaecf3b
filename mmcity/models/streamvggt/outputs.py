"""Inputs and outputs of the networks in the shapes other code wants them."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mmcity.models.layers.batches import stacked

#: Name in the per-frame results of each output with a frame dimension.
FRAME_KEYS = {
    "world_points": "pts3d_in_other_view",
    "world_points_conf": "conf",
    "depth": "depth",
    "depth_conf": "depth_conf",
    "pose_enc": "camera_pose",
    "track": "track",
    "vis": "vis",
    "vis_logits": "vis_logits",
    "track_conf": "track_conf",
}


def unpack_inputs(inputs: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Images ``(B, S, 3, H, W)`` and query points ``(B, N, 2)`` or None."""
    query_points = None
    if isinstance(inputs, Mapping):
        inputs, query_points = inputs["images"], inputs.get("query_points")
    inputs = stacked(inputs)
    query_points = None if query_points is None else stacked(query_points)
    return inputs[None] if inputs.dim() == 4 else inputs, query_points


def split_frames(
    outputs: Mapping[str, Tensor], views: Sequence[Mapping] | None = None
) -> list[dict[str, Tensor]]:
    """Per-frame results from whole-sequence outputs.

    Args:
        outputs: Result of a model in tensor mode.
        views: Input views, one per frame; their ``valid_mask`` is passed through.

    Returns:
        One dict per frame with ``pts3d_in_other_view`` (B, H, W, 3), ``conf`` (B, H, W),
        ``depth`` (B, H, W, 1), ``depth_conf`` (B, H, W), ``camera_pose`` (B, 9) and, with
        query points, ``track`` (B, N, 2), ``vis`` and ``track_conf`` (B, N).
    """
    present = {new: outputs[old] for old, new in FRAME_KEYS.items() if old in outputs}
    if not present:
        raise ValueError(f"outputs: expected some of {list(FRAME_KEYS)}, got none")
    frames = next(iter(present.values())).shape[1]
    results = [
        {name: value[:, frame] for name, value in present.items()} for frame in range(frames)
    ]
    for result, view in zip(results, views or []):
        if "valid_mask" in view:
            result["valid_mask"] = view["valid_mask"]
    return results
