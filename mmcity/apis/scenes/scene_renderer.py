"""Pictures of a reconstructed scene from any camera."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmcity.apis.inferencer import Inferencer
from mmcity.datasets.io.colmap_model import frame_of_model, read_colmap_model
from mmcity.engine.scene_loading import load_scene
from mmcity.models.renderers import SplatRenderer
from mmcity.registry import INFERENCERS
from mmcity.structures import Cameras, SceneFrame, Sim3
from mmcity.visualization import colorize_depth, colorize_normals, to_uint8


@dataclass
class RenderedViews:
    """Pictures of a scene, one entry per camera, on the CPU; fields by name too.

    Attributes:
        rgb: ``(3, H, W)`` in [0, 1].
        alpha: ``(H, W)`` opacity in [0, 1].
        depth: ``(H, W)`` z-depth in world units.
        normals: ``(3, H, W)`` unit vectors in camera axes.
    """

    rgb: list[Tensor] = field(default_factory=list)
    alpha: list[Tensor] = field(default_factory=list)
    depth: list[Tensor] = field(default_factory=list)
    normals: list[Tensor] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[Tensor]:
        return vars(self)[name]


@INFERENCERS.register_module()
class SceneRenderer(Inferencer):
    """Render a trained scene.

    Example::

        renderer = SceneRenderer("3dgs_colmap_cpu", "work_dirs/.../iter_5000.pth")
        renderer = SceneRenderer(checkpoint="scene.ply")
        views = renderer("data/scene/sparse/0")   # or Cameras of any sizes
        write_image("view.png", views.rgb[0])

    Args:
        config: Config of a scene model, see :class:`~mmcity.apis.Inferencer`. Defaults to
            None, which needs a file of Gaussians.
        checkpoint: Checkpoint of that config, or a file of Gaussians (``.ply``, ``.spz``, ``.glb``
            and the others of :data:`~mmcity.structures.GAUSSIAN_SUFFIXES`).
        device: Where to render. Defaults to CUDA where it is, else the CPU.
        antialiased: For a file of Gaussians: rendering mode it was trained with. Defaults to None:
            that of the config, without one what the file says.
        depth_mode: ``expected``, ``accumulated`` or ``median`` depth, see
            :class:`~mmcity.models.renderers.SplatRenderer`. Defaults to None: the scene's own.
        show_progress: See :class:`~mmcity.apis.Inferencer`. Defaults to True.
        weights: Another name of ``checkpoint``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If there are no weights, or the scene has one depth only.
        CheckpointError: If weights do not fit.
    """

    builds_with_weights = True

    def __init__(
        self,
        config: str | os.PathLike | Any | None = None,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        antialiased: bool | None = None,
        depth_mode: str | None = None,
        show_progress: bool = True,
        weights: str | os.PathLike | None = None,
    ) -> None:
        self._source = (weights if checkpoint is None else checkpoint, antialiased)
        super().__init__(config, None, device, show_progress)
        if depth_mode is not None:
            renderer = getattr(self.model, "renderer", None)
            if not isinstance(renderer, SplatRenderer):
                raise ValueError(
                    f"depth_mode: expected none for {type(self.model).__name__}, which renders "
                    f"the depth of its planes, got {depth_mode!r}"
                )
            renderer.depth_mode = depth_mode

    def build_model(self) -> nn.Module:
        """The scene, with its checkpoint or file of Gaussians."""
        checkpoint, antialiased = self._source
        if checkpoint is None:
            raise ValueError("checkpoint: expected a checkpoint or a file of Gaussians, got None")
        return load_scene(checkpoint, self.cfg or None, antialiased)

    @property
    def frame(self) -> SceneFrame:
        """Place of the scene in the world; cameras and depths are those of the scene."""
        return self.model.placement.frame

    @property
    def training_cameras(self) -> Cameras | None:
        """Cameras that the scene was made from; None for a file of Gaussians, which holds none."""
        views = self.model.views
        if not len(views.viewmats):
            return None
        sizes = views.sizes.cpu()
        return Cameras(views.Ks.cpu(), views.viewmats.cpu(), sizes[:, 0], sizes[:, 1])

    def __call__(self, cameras: Cameras | Mapping | str | os.PathLike) -> RenderedViews:
        """Render all cameras.

        Args:
            cameras: See :meth:`preprocess`.
        """
        result = RenderedViews()
        for picture in self.iterate(cameras):
            for name, value in picture.items():
                result[name].append(value)
        return result

    @torch.no_grad()
    def iterate(
        self, cameras: Cameras | Mapping | str | os.PathLike
    ) -> Iterator[dict[str, Tensor]]:
        """Render one camera after the other, for more pictures than memory holds.

        Args:
            cameras: See :meth:`preprocess`.

        Yields:
            The fields of :class:`RenderedViews` for one camera.
        """
        cameras = self.preprocess(cameras)
        for row in self.track(range(len(cameras)), "rendering"):
            yield self.postprocess(self.forward(cameras[row]))

    def preprocess(self, cameras: Cameras | Mapping | str | os.PathLike) -> Cameras:
        """Cameras to render.

        Args:
            cameras: Cameras of any sizes in the frame of the scene (:attr:`frame`), a dict of their
                arrays (``Ks``, ``viewmats``, ``widths``, ``heights``), or the folder of a COLMAP
                model or scene, whose cameras are taken by image id and without distortion, and
                brought to that frame.
        """
        if isinstance(cameras, Mapping):
            cameras = Cameras(**cameras)
        if isinstance(cameras, (str, os.PathLike)):
            model = read_colmap_model(cameras, with_features=False, with_points=False)
            offset = frame_of_model(cameras).shift_to(self.frame)
            cameras = model.pinhole_cameras().transform(Sim3(translation=torch.from_numpy(-offset)))
        if not isinstance(cameras, Cameras):
            raise TypeError(
                "cameras: expected Cameras, a dict of their arrays, or the folder of a COLMAP "
                f"model, got {type(cameras).__name__}"
            )
        return cameras.to(torch.float32)

    @torch.no_grad()
    def forward(self, camera: Cameras) -> dict[str, Tensor]:
        """Outputs of the scene's ``render`` for one camera."""
        return self.model.render(camera.to(self.device))

    def postprocess(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The fields of :class:`RenderedViews` for one camera."""
        return dict(
            rgb=outputs["rgb"][0].permute(2, 0, 1).clamp(0, 1).cpu(),
            alpha=outputs["alpha"][0, ..., 0].cpu(),
            depth=outputs["depth"][0, ..., 0].cpu(),
            normals=outputs["normals"][0].permute(2, 0, 1).cpu(),
        )

    def visualize(self, result: RenderedViews) -> list[np.ndarray]:
        """Colour, depth and normals side by side, one picture per camera."""
        return [
            np.concatenate([to_uint8(rgb), colorize_depth(depth), colorize_normals(normals)], 1)
            for rgb, depth, normals in zip(result.rgb, result.depth, result.normals)
        ]
