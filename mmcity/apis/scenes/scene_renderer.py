"""Pictures of a reconstructed scene from any camera."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmcity.engine.scene_loading import load_scene
from mmcity.models.renderers import DEPTH_MODES, SplatRenderer
from mmcity.registry import INFERENCERS
from mmcity.structures import Cameras
from mmcity.utils.setup_env import register_all_modules

__all__ = ["SceneRenderer"]


@INFERENCERS.register_module()
class SceneRenderer:
    """Render a trained scene.

    Example::

        renderer = SceneRenderer("configs/.../3dgs_colmap_cpu.py", "work_dirs/.../iter_5000.pth")
        renderer = SceneRenderer(weights="scene.ply")
        result = renderer(cameras)           # Cameras of any sizes
        write_image("view.png", result["rgb"][0])

    Args:
        config: Config of a scene model, a path or a loaded config. Defaults to None, which
            needs a PLY.
        weights: Checkpoint of that config (read with ``weights_only=True``), or a ``.ply``
            file in the 3DGS layout.
        device: Where to render. Defaults to CUDA where it is, else the CPU.
        antialiased: For a PLY: rendering mode it was trained with. Defaults to False.
        depth_mode: ``expected``, ``accumulated`` or ``median`` depth, see
            :class:`~mmcity.models.renderers.SplatRenderer`. Defaults to None: the scene's own.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If weights do not fit, or the scene has one depth only.
    """

    def __init__(
        self,
        config: str | os.PathLike | Any | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        antialiased: bool = False,
        depth_mode: str | None = None,
    ) -> None:
        register_all_modules()
        if weights is None:
            raise ValueError("SceneRenderer needs weights: a checkpoint or a .ply file")
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.model = load_scene(weights, config, antialiased)
        self.model.to(self.device).eval()
        if depth_mode is not None:
            renderer = getattr(self.model, "renderer", None)
            if not isinstance(renderer, SplatRenderer):
                raise ValueError(
                    f"depth_mode={depth_mode!r}: {type(self.model).__name__} renders "
                    "the depth of its planes"
                )
            if depth_mode not in DEPTH_MODES:
                raise ValueError(f"depth_mode: expected one of {DEPTH_MODES}, got {depth_mode!r}")
            renderer.depth_mode = depth_mode

    @property
    def training_cameras(self) -> Cameras | None:
        """Cameras that the scene was made from; None for a PLY, which does not hold them."""
        views = self.model.views
        if not len(views.viewmats):
            return None
        sizes = views.sizes.cpu()
        return Cameras(views.Ks.cpu(), views.viewmats.cpu(), sizes[:, 0], sizes[:, 1])

    @torch.no_grad()
    def iterate(self, cameras: Cameras) -> Iterator[dict[str, Tensor]]:
        """Render one camera after the other, for more pictures than memory holds.

        Yields:
            ``rgb`` (3, H, W) in [0, 1], ``alpha`` (H, W), ``depth`` (H, W) z-depth in world
            units, ``normals`` (3, H, W) unit vectors in camera axes; on the CPU.
        """
        for row in range(len(cameras)):
            camera = cameras[row].to(self.device)
            out = self.model.render(camera)
            yield dict(
                rgb=out["rgb"][0].permute(2, 0, 1).clamp(0, 1).cpu(),
                alpha=out["alpha"][0, ..., 0].cpu(),
                depth=out["depth"][0, ..., 0].cpu(),
                normals=out["normals"][0].permute(2, 0, 1).cpu(),
            )

    def __call__(self, cameras: Cameras) -> dict[str, list[Tensor]]:
        """Render all cameras; lists of what :meth:`iterate` yields, one entry per camera."""
        result: dict[str, list[Tensor]] = {}
        for picture in self.iterate(cameras):
            for name, value in picture.items():
                result.setdefault(name, []).append(value)
        return result
