"""Learned perceptual similarity (LPIPS, Zhang et al. 2018) from weights on disk."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice
from mmcity.utils.torch_files import read_torch

#: Layers before each tapped feature: ("conv", in, out, kernel, stride, padding) or ("pool", k).
_ALEX = [
    [("conv", 3, 64, 11, 4, 2)],
    [("pool", 3), ("conv", 64, 192, 5, 1, 2)],
    [("pool", 3), ("conv", 192, 384, 3, 1, 1)],
    [("conv", 384, 256, 3, 1, 1)],
    [("conv", 256, 256, 3, 1, 1)],
]


def _vgg_stages() -> list[list[tuple]]:
    stages, channels = [], 3
    for i, (width, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        stage: list[tuple] = [("pool", 2)] if i else []
        for _ in range(depth):
            stage.append(("conv", channels, width, 3, 1, 1))
            channels = width
        stages.append(stage)
    return stages


class LPIPS(nn.Module):
    """Distance of two images in the features of a classification network.

    Args:
        weights: A ``torch.save`` file with one flat dict that holds the convolution
            weights under torchvision's names (``features.0.weight``, ...) and the five
            linear heads under the names of the LPIPS release (``lin0.model.1.weight``).
            ``torch.save({**backbone_state, **lpips_heads}, path)`` makes it.
        network: ``alex`` or ``vgg``. Defaults to ``alex``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a weight is missing or has another shape.
    """

    def __init__(self, weights: str | os.PathLike, network: str = "alex") -> None:
        super().__init__()
        check_choice("network", network, ("alex", "vgg"))
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected LPIPS weights, found none")
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.stages = nn.ModuleList()
        self.heads = nn.ParameterList()
        self._load(read_torch(path), network, path)
        self.requires_grad_(False).eval()

    def _load(self, state: dict[str, Tensor], network: str, path: Path) -> None:
        index = 0  # position in torchvision's nn.Sequential `features`
        for number, stage in enumerate(_ALEX if network == "alex" else _vgg_stages()):
            layers: list[nn.Module] = []
            for kind, *numbers in stage:
                if kind == "pool":
                    layers.append(nn.MaxPool2d(numbers[0], stride=2))
                    index += 1
                    continue
                conv = nn.Conv2d(numbers[0], numbers[1], *numbers[2:])
                for name in ("weight", "bias"):
                    value = self._take(state, f"features.{index}.{name}", path)
                    self._copy(getattr(conv, name), value, f"features.{index}.{name}", path)
                layers += [conv, nn.ReLU()]
                index += 2
            self.stages.append(nn.Sequential(*layers))
            name = f"lin{number}.model.1.weight"
            head = torch.empty(1, layers[-2].out_channels, 1, 1)
            self._copy(head, self._take(state, name, path), name, path)
            self.heads.append(nn.Parameter(head))

    @staticmethod
    def _take(state: dict[str, Tensor], name: str, path: Path) -> Tensor:
        if name not in state:
            raise ValueError(f"{path}: expected a weight '{name}', got none")
        return state[name]

    @staticmethod
    def _copy(target: Tensor, value: Tensor, name: str, path: Path) -> None:
        if target.shape != value.shape:
            raise ValueError(
                f"{path}: weight '{name}' has shape {tuple(value.shape)}, "
                f"expected {tuple(target.shape)}"
            )
        with torch.no_grad():
            target.copy_(value)

    @torch.no_grad()
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distance per image.

        Args:
            prediction: (B, 3, H, W) in [0, 1].
            target: Same shape.

        Returns:
            (B,) distances, 0 for equal images.
        """
        return self.distance(prediction, target)

    def distance(self, prediction: Tensor, target: Tensor, rescale: bool = True) -> Tensor:
        """As :meth:`forward`, differentiable; ``rescale=False`` for pictures in [-1, 1]."""
        if rescale:
            prediction, target = prediction * 2 - 1, target * 2 - 1
        first, second = (prediction - self.shift) / self.scale, (target - self.shift) / self.scale
        total = prediction.new_zeros(prediction.shape[0])
        for stage, head in zip(self.stages, self.heads):
            first, second = stage(first), stage(second)
            difference = nn.functional.normalize(first, dim=1, eps=1e-10)
            difference = difference - nn.functional.normalize(second, dim=1, eps=1e-10)
            total = total + (difference.square() * head).sum(1).mean(dim=(1, 2))
        return total


@MODELS.register_module()
class LPIPSLoss(nn.Module):
    """LPIPS as a loss of a render.

    Args:
        weights: See :class:`LPIPS`.
        network: ``alex`` or ``vgg``. Defaults to ``vgg``.
        loss_weight: Defaults to 0.005.
        rescale: Take pictures from [0, 1] to [-1, 1] first, as LPIPS expects them; without,
            they are given as they are (as some published trainings do). Defaults to True.
    """

    def __init__(
        self,
        weights: str | os.PathLike,
        network: str = "vgg",
        loss_weight: float = 0.005,
        rescale: bool = True,
    ) -> None:
        super().__init__()
        self.lpips = LPIPS(weights, network)
        self.loss_weight, self.rescale = loss_weight, rescale

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of pictures ``(B, 3, H, W)`` in [0, 1]; masked pixels are black in both."""
        if mask is not None:
            prediction, target = prediction * mask[:, None], target * mask[:, None]
        return self.loss_weight * self.lpips.distance(prediction, target, self.rescale).mean()
