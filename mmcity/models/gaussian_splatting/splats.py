"""The scene as trainable parameters."""

import torch
from torch import nn

from mmcity.models.layers import SplatTable
from mmcity.structures import Gaussians


class SplatParameters(SplatTable):
    """Gaussians with spherical-harmonic colours, stored before activation.

    See :class:`SplatTable`, and :mod:`.strategies.surgery` for the edits that keep the moments of
    the optimiser in step.

    Shapes: ``means`` (N, 3) world units; ``log_scales`` (N, 3); ``quats`` (N, 4) wxyz, not
    normalised; ``opacity_logits`` (N,); ``sh0`` (N, 1, 3); ``shN`` (N, K - 1, 3) with
    K = (sh_degree + 1)^2.

    Args:
        sh_degree: Degree of the spherical harmonics, 0 to 4.
    """

    model_name = "GaussianSplatting"
    NAMES = ("means", "log_scales", "quats", "opacity_logits", "sh0", "shN")
    resizable = NAMES

    def __init__(self, sh_degree: int = 3) -> None:
        super().__init__()
        if not 0 <= sh_degree <= 4:
            raise ValueError(f"sh_degree: expected 0..4, got {sh_degree}")
        self.sh_degree = sh_degree
        self.sh0 = nn.Parameter(torch.zeros(0, 1, 3))
        self.shN = nn.Parameter(torch.zeros(0, (sh_degree + 1) ** 2 - 1, 3))

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
            raise ValueError("gaussians: expected colours (sh0), got none")
        count, columns = len(gaussians), self.shN.shape[1]
        higher = gaussians.means.new_zeros(count, columns, 3)
        if gaussians.shN is not None:
            if gaussians.shN.shape[1] > columns:
                raise ValueError(
                    f"gaussians: expected {columns + 1} SH coefficients "
                    f"(sh_degree={self.sh_degree}), got {gaussians.shN.shape[1] + 1}"
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

    def _hint(self) -> str:
        return f" (sh_degree={self.sh_degree})"
