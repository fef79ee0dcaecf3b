"""Networks whose features sets of samples are compared in, as registry objects.

An extractor is called with a batch and returns ``(features (N, D), logits (N, K))``; its
``name`` and ``checksum`` go beside every number that rests on it, since distances in the
features of different weights cannot be compared.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS, TASK_UTILS
from mmcity.utils.torch_files import read_torch


def weights_checksum(module: nn.Module) -> str:
    """First 16 hex digits of SHA-256 over names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Extractor:
    """A frozen network with a name and the checksum of its weights."""

    def __init__(self, name: str, network: nn.Module, checksum: str | None = None) -> None:
        self.name = name
        self.network = network.eval()
        self.checksum = checksum or weights_checksum(network)

    @torch.no_grad()
    def __call__(self, batch: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Features and logits of a batch, worked out on a device, given on the CPU."""
        self.network.to(device)
        features, logits = self.run(batch.to(device))
        return features.cpu(), logits.cpu()

    def run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, D)`` and logits ``(N, K)`` of a batch."""
        raise NotImplementedError


class _RandomNet(nn.Module):
    """Strided convolutions with weights drawn from a seed, pooled to a few cells that are
    mixed at random, and a linear head."""

    CELLS = 4

    def __init__(
        self, conv: type, channels: Sequence[int], dim: int, classes: int, seed: int
    ) -> None:
        super().__init__()
        self.pool_size = (self.CELLS, self.CELLS) + ((1,) if conv is nn.Conv3d else ())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for a, b in zip(channels[:-1], channels[1:]):
                layer = conv(a, b, 3, stride=2, padding=1)
                # Deviations are kept from layer to layer.
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
                layers += [layer, nn.ReLU()]
            self.body = nn.Sequential(*layers)
            self.mix = nn.Linear(channels[-1] * self.CELLS**2, dim, bias=False)
            nn.init.orthogonal_(self.mix.weight)
            self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pool = F.adaptive_avg_pool3d if x.dim() == 5 else F.adaptive_avg_pool2d
        features = self.mix(pool(self.body(x), self.pool_size).flatten(1))
        return features, self.head(features)


@TASK_UTILS.register_module()
class RandomImageFeatures(_Extractor):
    """Random convolutions on images: needs no weights; for tests and small experiments.

    Args:
        dim: Features of a picture. Defaults to 64.
        seed: Of the weights. Defaults to 0.
    """

    def __init__(self, dim: int = 64, seed: int = 0) -> None:
        net = _RandomNet(nn.Conv2d, (3, 16, 32, 32, 32), dim, 16, seed)
        super().__init__(f"random2d-{dim}-s{seed}", net)

    def run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(N, H, W, 3)`` uint8."""
        return self.network(batch.movedim(-1, 1).float() / 127.5 - 1.0)


@TASK_UTILS.register_module()
class RandomVoxelFeatures(_Extractor):
    """Random convolutions on one-hot voxels: needs no weights.

    Args:
        num_classes: Label slots. Defaults to 12.
        dim, seed: As in :class:`RandomImageFeatures`.
    """

    def __init__(self, num_classes: int = 12, dim: int = 64, seed: int = 0) -> None:
        self.num_classes = num_classes
        net = _RandomNet(nn.Conv3d, (num_classes, 16, 32, 32), dim, 16, seed)
        super().__init__(f"random3d-{dim}-s{seed}", net)

    def run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Labels ``(N, X, Y, Z)``."""
        return self.network(F.one_hot(batch.long(), self.num_classes).movedim(-1, 1).float())


@TASK_UTILS.register_module()
class OccNetFeatures(_Extractor):
    """Bottleneck of a trained ``OccFeatureNet``.

    Args:
        model: Config of the network.
        checkpoint: Its weights.
        sha256: Beginning of the checksum that the weights must have. Defaults to None.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If the weights do not fit or have another checksum.
    """

    def __init__(self, model: dict, checkpoint: str, sha256: str | None = None) -> None:
        network = MODELS.build(model)
        path = Path(checkpoint)
        if not path.is_file():
            raise FileNotFoundError(
                f"feature network {path}: expected a file, found none: train it with "
                "configs/dynamiccity/occ_feature_net_*.py"
            )
        state = read_torch(path)
        state = state.get("state_dict", state)
        expected = network.state_dict()
        if set(state) != set(expected) or any(state[k].shape != expected[k].shape for k in state):
            raise ValueError(f"{path}: expected weights of the config {model}, got others")
        network.load_state_dict(state)
        super().__init__("occ-feature-net", network)
        _check_sum(self.checksum, sha256, path)

    def run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Labels ``(N, X, Y, Z)``."""
        return self.network.extract(batch)


@TASK_UTILS.register_module()
class ScriptedImageFeatures(_Extractor):
    """A TorchScript network: InceptionV3 or VGG-16 as FID tools hand them out.

    Colours are those of the picture, 0 to 255, and ``return_features=True`` gives features.

    Args:
        path: TorchScript file; loading it runs its code, so use files that you trust.
        logit_options: Keyword arguments of the call that gives logits; None takes features as
            logits (for networks that serve precision and recall only). Defaults to None.
        size: Pictures are resized to this edge, 299 for InceptionV3; None leaves it to the
            network. Defaults to None.
        sha256: Beginning of the file's checksum. Defaults to None.
    """

    def __init__(
        self,
        path: str,
        logit_options: dict | None = None,
        size: int | None = None,
        sha256: str | None = None,
    ) -> None:
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"feature network {file}: expected a file, found none")
        checksum = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        _check_sum(checksum, sha256, file)
        network = torch.jit.load(str(file), map_location="cpu")
        super().__init__(file.stem, network, checksum)
        self.logit_options = logit_options
        self.size = size

    def run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(N, H, W, 3)`` uint8."""
        x = batch.movedim(-1, 1).float()
        if self.size is not None:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        features = self.network(x, return_features=True)
        if self.logit_options is None:
            return features, features
        return features, self.network(x, **self.logit_options)


def _check_sum(found: str, wanted: str | None, path: Path) -> None:
    if wanted is not None and not found.startswith(wanted.lower()[:16]):
        raise ValueError(f"{path}: checksum {found} is not the expected {wanted}")
