"""Place of a model's world, which travels in its checkpoints."""

import torch
from torch import Tensor, nn

from mmcity.structures import SceneFrame

_NUMBERS = ("origin", "scale", "rotation", "translation")
_TEXTS = ("crs", "unit")


class Placement(nn.Module):
    """The frame of what a model knows: poses and scenes are about their own origin.

    A state dict holds the numbers of the frame in float64 and its texts as bytes of UTF-8, and
    nothing of a frame that says nothing, so that such checkpoints are those of versions without
    frames. Where a state dict has none, loading it leaves the identity.

    Attributes:
        frame (SceneFrame): From the model's coordinates to the world.
    """

    #: Checkpoints without its entries fit a model with it.
    may_miss = True

    def __init__(self) -> None:
        super().__init__()
        self.frame = SceneFrame()

    @property
    def known_frame(self) -> SceneFrame | None:
        """The frame, or None where it says nothing."""
        return None if self.frame.is_identity else self.frame

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        destination.update(frame_to_state(self.known_frame, prefix))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        self.frame = frame_in_state(state_dict, prefix) or SceneFrame()


def frame_to_state(frame: SceneFrame | None, prefix: str = "placement.") -> dict[str, Tensor]:
    """Entries of a frame in the state dict of a model; none for one that says nothing."""
    if frame is None or frame.is_identity:
        return {}
    numbers = {name: getattr(frame, name) for name in _NUMBERS}
    if frame.lla is not None:
        numbers["lla"] = frame.lla
    texts = {name: list(getattr(frame, name).encode()) for name in _TEXTS}
    tables = ((numbers, torch.float64), (texts, torch.uint8))
    return {
        prefix + name: torch.tensor(value, dtype=dtype, device="cpu")
        for table, dtype in tables
        for name, value in table.items()
    }


def frame_in_state(state_dict: dict[str, Tensor], prefix: str = "placement.") -> SceneFrame | None:
    """Frame in the state dict of a model; None where it holds none."""
    if f"{prefix}origin" not in state_dict:
        return None
    names = [name for name in (*_NUMBERS, "lla") if prefix + name in state_dict]
    numbers = {name: state_dict[prefix + name].double().cpu().numpy() for name in names}
    texts = {name: bytes(state_dict[prefix + name].tolist()).decode() for name in _TEXTS}
    return SceneFrame(**numbers, **texts)
