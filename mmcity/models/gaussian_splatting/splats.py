"""The scene as trainable parameters."""

import torch
from torch import Tensor, nn

from mmcity.models.layers import ResizableModule
from mmcity.structures import Gaussians

__all__ = ["SplatParameters"]


class SplatParameters(ResizableModule):
    """Gaussians with spherical-harmonic colours, stored before activation.

    The number of Gaussians changes while training. The :class:`torch.nn.Parameter`
    objects stay the same and only their ``data`` is exchanged, so that an optimiser which
    holds them never loses sight of them; see :mod:`.strategies.surgery` for the edits that
    keep its moments in step. A state dict restores a scene of any size.

    Shapes: ``means`` (N, 3) world units; ``log_scales`` (N, 3); ``quats`` (N, 4) wxyz, not
    normalised; ``opacity_logits`` (N,); ``sh0`` (N, 1, 3); ``shN`` (N, K - 1, 3) with
    K = (sh_degree + 1)^2.

    Args:
        sh_degree: Degree of the spherical harmonics, 0 to 4.
    """

    NAMES = ("means", "log_scales", "quats", "opacity_logits", "sh0", "shN")
    resizable = NAMES

    def __init__(self, sh_degree: int = 3) -> None:
        super().__init__()
        if not 0 <= sh_degree <= 4:
            raise ValueError(f"sh_degree must be in 0..4, received {sh_degree}")
        self.sh_degree = sh_degree
        self.means = nn.Parameter(torch.zeros(0, 3))
        self.log_scales = nn.Parameter(torch.zeros(0, 3))
        self.quats = nn.Parameter(torch.zeros(0, 4))
        self.opacity_logits = nn.Parameter(torch.zeros(0))
        self.sh0 = nn.Parameter(torch.zeros(0, 1, 3))
        self.shN = nn.Parameter(torch.zeros(0, (sh_degree + 1) ** 2 - 1, 3))

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def scales(self) -> Tensor:
        """(N, 3) standard deviations along the axes, world units."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """(N,) opacities in (0, 1)."""
        return self.opacity_logits.sigmoid()

    def to_gaussians(self) -> Gaussians:
        """The scene after activation, without gradients, on the CPU."""
        values = {n: getattr(self, n).detach().cpu() for n in ("means", "quats", "sh0", "shN")}
        if not self.sh_degree:
            values["shN"] = None
        return Gaussians(
            scales=self.scales.detach().cpu(), opacities=self.opacities.detach().cpu(), **values
        )

    def assign_gaussians(self, gaussians: Gaussians) -> None:
        """Take over a scene; missing degrees of the spherical harmonics become zero.

        Raises:
            ValueError: If the scene has no colours or more degrees than this module.
        """
        if gaussians.sh0 is None:
            raise ValueError("the Gaussians carry no colours (sh0)")
        count, columns = len(gaussians), self.shN.shape[1]
        higher = gaussians.means.new_zeros(count, columns, 3)
        if gaussians.shN is not None:
            if gaussians.shN.shape[1] > columns:
                raise ValueError(
                    f"the Gaussians have {gaussians.shN.shape[1] + 1} SH coefficients, the model "
                    f"holds {columns + 1} (sh_degree={self.sh_degree})"
                )
            higher[:, : gaussians.shN.shape[1]] = gaussians.shN
        tiny = torch.finfo(gaussians.opacities.dtype).eps
        self.assign(
            means=gaussians.means,
            log_scales=gaussians.scales.clamp_min(torch.finfo(torch.float32).tiny).log(),
            quats=gaussians.quats,
            opacity_logits=gaussians.opacities.clamp(tiny, 1 - tiny).logit(),
            sh0=gaussians.sh0,
            shN=higher,
        )

    def assign(self, **values: Tensor) -> None:
        """Replace the whole scene; every attribute must be given, all of one length.

        Raises:
            ValueError: If an attribute is missing or has a wrong shape.
        """
        self._check(values, "assign")
        for name in self.NAMES:
            parameter = getattr(self, name)
            parameter.grad = None
            parameter.data = values[name].detach().to(parameter.data).contiguous().clone()

    def _check(self, values: dict[str, Tensor], where: str) -> None:
        missing = [name for name in self.NAMES if name not in values]
        if missing:
            raise ValueError(f"{where}: the Gaussians lack {', '.join(missing)}")
        count = values["means"].shape[0]
        for name in self.NAMES:
            expected = (count, *getattr(self, name).shape[1:])
            if tuple(values[name].shape) != expected:
                raise ValueError(
                    f"{where}: '{name}' has shape {tuple(values[name].shape)}, expected "
                    f"{expected} (sh_degree={self.sh_degree})"
                )

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        values = {n: state_dict[prefix + n] for n in self.NAMES if prefix + n in state_dict}
        # A scene model without its scene is never what the user meant: say so at once
        # instead of listing missing keys and going on with an empty scene.
        self._check(values, "This checkpoint does not fit a GaussianSplatting model")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
