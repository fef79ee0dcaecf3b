"""Latent cells that a region of voxels touches, and the resampling schedule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .hexplane import PLANES, to_rollout


def region_to_rollout_mask(region: Tensor, txyz: Sequence[int]) -> Tensor:
    """Latent cells that cover a voxel of a region.

    Args:
        region: Bool ``(B, T, X, Y, Z)``, True where voxels are to be generated.
        txyz: Latent sizes; must divide the clip's sizes.

    Returns:
        Float ``(B, 1, S, S)`` rollout map, 1 where a cell is unknown.
    """
    size = dict(zip("txyz", region.shape[1:]))
    latent = dict(zip("txyz", txyz))
    planes = []
    for name in PLANES:
        reduced = [1 + "txyz".index(axis) for axis in "txyz" if axis not in name]
        flat = region.amax(dim=reduced)  # (B, a, b)
        kernel = tuple(size[axis] // latent[axis] for axis in name)
        planes.append(F.max_pool2d(flat[:, None].float(), kernel))
    return to_rollout(planes)


@dataclass
class RepaintSchedule:
    """Steps of a chain with jumps back, so that filled cells agree with known ones.

    Args:
        jump_length: Steps of one jump back to more noise.
        jump_n: Passes through each stretch of ``jump_length`` steps; 1 means no jumps.
    """

    jump_length: int = 10
    jump_n: int = 10

    def __post_init__(self) -> None:
        if self.jump_length < 1 or self.jump_n < 1:
            raise ValueError(
                f"jump_length, jump_n: expected at least 1, got {self.jump_length}, {self.jump_n}"
            )

    def steps(self, length: int) -> Iterator[tuple[int, bool]]:
        """Pairs ``(index, is_forward)`` of a chain of ``length`` steps.

        A backward pair denoises from ``index`` to ``index - 1``; a forward pair adds the
        noise of ``index`` again.
        """
        end = length
        while end > 0:
            start = max(0, end - self.jump_length)
            for turn in range(self.jump_n):
                for index in range(end - 1, start - 1, -1):
                    yield index, False
                # The last stretch ends in clean samples, which no step can be noised from.
                if turn + 1 < self.jump_n and start > 0:
                    for index in range(start, end):
                        yield index, True
                else:
                    break
            end = start
