"""Gaussians whose colours follow a reference photograph, as a trainable scene."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmcity.models.layers import SplatSceneModel
from mmcity.registry import MODELS
from mmcity.structures import SH_C0, Cameras, SceneDataSample
from mmcity.structures.geometry import transform_points

from ..deblurring import ExposureMotion
from .splats import AppearanceSplats

#: Deviations within which a Gaussian may show, and px beside the picture that count as in it.
_REACH, _MARGIN = 4.0, 16.0


@MODELS.register_module()
class AppearanceGaussians(SplatSceneModel):
    """Appearance-varying Gaussians with deblurring and depth supervision.

    The colours of a view come from a network that sees maps of a reference photograph
    (:class:`AppearanceModel`). While training, the reference is the photograph itself. For
    other views, :meth:`set_appearance` chooses one and keeps the codes that do not depend on
    the view, so that further views cost only the last layers; without one, the intrinsic look
    is shown.

    Args:
        appearance (dict, optional): Config of an :class:`AppearanceModel`; its maps decide how
            many box coordinates a Gaussian has. Defaults to three maps, the last projected.
        use_color_net (bool): False gives spherical-harmonic colours from the intrinsic
            features, without any appearance. Defaults to True.
        base_colors (bool): Add the network's colours, which are 0 at first, to the base colours
            of the intrinsic features, so that a scene starts as the points of the capture look
            and the network learns what differs. Published weights have False: all colour comes
            from the network. Defaults to False.
        sh_degree (int): For ``use_color_net=False``. Defaults to 3.
        coord_scale (float): Of the box coordinates. Defaults to 1.
        learn_sampled_coords (bool): False leaves only the projected box learnable. Defaults
            to True.
        init (dict, optional): ``opacity``, ``scale_factor``.
        renderer (dict, optional): Config of a ``SplatRenderer``. Defaults to antialiased.
        random_background (bool): A colour per step behind the Gaussians. Defaults to False.
        motion (dict, optional): Config of an :class:`ExposureMotion` for blurred photographs;
            None for sharp ones.
        losses (dict, optional): Configs by name, of pictures, opacities or scales; LPIPS too.
            Defaults to 0.8 L1 + 0.2 SSIM.
        depth_weight (tuple, optional): First and last weight of the depth loss, log-linear
            over ``depth_iterations``; None leaves it out. Defaults to None.
        depth_iterations (int): Defaults to 30000.
        depth_mode (str, optional): Mode of the ``renderer``, whose depth is also compared with
            metric depth (inverse depth priors with accumulated inverse depth). Defaults to None:
            as the renderer's config says.
        feature_mask (bool): Predict for each photograph a mask of what fits no static scene,
            and train outside of it. Defaults to False.
        feature_mask_start (int): Iteration from which it takes part. Defaults to 2500.
        feature_mask_weight (float): Of the mask's penalty. Defaults to 0.15.
        compile_networks (bool): Compile map generator and colour network. Defaults to False.
        data_preprocessor (dict, optional): Defaults to ``PosedImagePreprocessor``.
        init_cfg (dict, optional): See mmengine.
    """

    def __init__(
        self,
        appearance: dict | None = None,
        use_color_net: bool = True,
        base_colors: bool = False,
        sh_degree: int = 3,
        coord_scale: float = 1.0,
        learn_sampled_coords: bool = True,
        init: dict | None = None,
        renderer: dict | None = None,
        random_background: bool = False,
        motion: dict | None = None,
        losses: dict[str, dict] | None = None,
        depth_weight: tuple[float, float] | None = None,
        depth_iterations: int = 30_000,
        depth_mode: str | None = None,
        feature_mask: bool = False,
        feature_mask_start: int = 2500,
        feature_mask_weight: float = 0.15,
        compile_networks: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(losses=losses, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.appearance = None
        num_maps = 0
        if use_color_net:
            maps = {"type": "AppearanceModel", "coord_scale": coord_scale, **(appearance or {})}
            self.appearance = MODELS.build(maps)
            num_maps = self.appearance.map_generator.num_maps
            if base_colors:
                self.appearance.color_net.start_at_zero()
            if compile_networks:
                self.appearance.map_generator.compile()
                self.appearance.color_net.compile()
        self.splats = AppearanceSplats(num_maps)
        self.renderer = MODELS.build(renderer or dict(type="SplatRenderer", antialiased=True))
        if depth_mode is not None:
            self.renderer.depth_mode = depth_mode
        if depth_weight is not None and self.renderer.depth_mode == "median":
            raise ValueError(
                "depth_mode: expected 'expected' or 'accumulated' with depth_weight, got 'median', "
                "which has no gradient: take one of them, or depth_weight=None"
            )
        self.motion: ExposureMotion | None = None
        if motion is not None:
            motion = {"type": "ExposureMotion", "num_images": 0, **motion}
            self.motion = MODELS.build(motion)
        self.mask_head = None
        if feature_mask:
            if not use_color_net:
                raise ValueError("use_color_net: expected True for feature_mask, got False")
            channels = self.appearance.map_generator.channels * num_maps
            self.mask_head = nn.Conv2d(channels, 1, 1)
            nn.init.zeros_(self.mask_head.weight)
            nn.init.constant_(self.mask_head.bias, 4.0)  # at first nearly everything counts
        self.use_color_net, self.sh_degree = use_color_net, sh_degree
        self.base_colors = base_colors
        self.coord_scale, self.learn_sampled_coords = coord_scale, learn_sampled_coords
        self.init_options = dict(init or {})
        self.random_background = random_background
        self.depth_weight, self.depth_iterations = depth_weight, depth_iterations
        self.feature_mask_start, self.feature_mask_weight = feature_mask_start, feature_mask_weight
        self._codes: Tensor | None = None

    # ---- the scene's beginning

    def initialize(
        self,
        cameras: Cameras,
        points: Tensor | None = None,
        colors: Tensor | None = None,
        is_trained: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Make the first scene from the points of the capture; see the scene hook."""
        if points is None or colors is None or not len(points):
            raise ValueError("capture: expected points for appearance Gaussians, got none")
        self.views.initialize(cameras)
        self.splats.initialize(
            points,
            colors,
            coord_scale=self.coord_scale,
            has_projected_map=self.appearance is None or self.appearance.use_projection,
            generator=generator,
            **self.init_options,
        )
        if self.motion is not None:
            self.motion.initialize(len(cameras) if is_trained is None else len(is_trained))

    @property
    def summary(self) -> str:
        """One line about the scene for the log."""
        return f"{len(self.splats)} Gaussians with appearance"

    def to_gaussians(self):
        """The scene in its intrinsic base colours."""
        return self.placed(self.splats.to_gaussians())

    # ---- appearance

    @torch.no_grad()
    def set_appearance(self, image: Tensor, camera: Cameras, blend: float = 1.0) -> None:
        """Show the scene as a photograph does, until another one is chosen.

        Args:
            image (Tensor): ``(3, H, W)`` in [0, 1].
            camera (Cameras): Where it was taken (about).
            blend (float): Weight of its appearance; 0 gives the intrinsic look. Defaults to 1.
        """
        if self.appearance is None:
            return
        was_training = self.training
        self.eval()
        self._codes = self._encode(image, camera, blend)[0]
        self.train(was_training)

    def clear_appearance(self) -> None:
        """Show the intrinsic look again."""
        self._codes = None

    def _encode(
        self, image: Tensor, camera: Cameras, blend: float, rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Codes of Gaussians (all, or some rows), ``(N, 48)``, and the maps of a photograph."""
        splats = self.splats
        maps = self.appearance.map_generator(image)
        means, coords, f_intr = splats.means, splats.box_coords, splats.f_intr
        if rows is not None:
            means, coords, f_intr = means[rows], coords[rows], f_intr[rows]
        if not self.learn_sampled_coords:
            coords = torch.cat([coords[:, :-1].detach(), coords[:, -1:]], 1)
        vector, _ = self.appearance.gather(maps, means, coords, camera.Ks[0], camera.viewmats[0])
        return self.appearance.color_net.encode(means, vector, f_intr, blend), maps

    @torch.no_grad()
    def _rows_in_view(self, camera: Cameras) -> Tensor:
        """Rows of Gaussians ``(n,)`` that may reach into a picture, so that others need no colour.

        A margin of four deviations, where rendering ends at less, also holds while an exposure
        moves the scene.
        """
        pixels, depth = (part[0] for part in camera.project(self.splats.means))
        reach = _REACH * self.splats.scales.max(-1).values
        near = depth.clamp_min(1e-6)
        # px; what lies about the camera's plane may reach anywhere.
        margin = camera.Ks[0].diagonal()[:2] * (reach / near)[:, None] + _MARGIN
        width, height = camera.one_size()
        below = (pixels[:, 0] < width + margin[:, 0]) & (pixels[:, 1] < height + margin[:, 1])
        inside = (pixels > -margin).all(-1) & below & (depth > 0)
        return (inside | (depth.abs() < reach)).nonzero().flatten()

    def _intrinsic_codes(self) -> Tensor:
        splats = self.splats
        channels = self.appearance.map_generator.channels * self.appearance.map_generator.num_maps
        nothing = splats.means.new_zeros(len(splats), channels)
        return self.appearance.color_net.encode(splats.means, nothing, splats.f_intr, 0.0)

    # ---- rendering

    def render(self, cameras: Cameras, with_geometry: bool = True) -> dict[str, Any]:
        """Render cameras of one size in the chosen appearance; see ``SplatRenderer``."""
        codes = self._codes
        # Codes of another set of Gaussians are of no use after an edit of the scene.
        if self.appearance is not None and (codes is None or len(codes) != len(self.splats)):
            codes = self._intrinsic_codes()
        parts = [
            self._render_one(cameras[row], codes, self.splats.means, with_geometry)
            for row in range(len(cameras))
        ]
        names = [name for name in parts[0] if name != "meta"]
        out: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in names}
        out["meta"] = parts[0]["meta"]
        return out

    def _render_one(
        self,
        camera: Cameras,
        codes: Tensor | None,
        means: Tensor,
        with_geometry: bool = False,
        with_inverse_depth: bool = False,
        rows: Tensor | None = None,
    ) -> dict[str, Any]:
        """One view; ``rows`` are the Gaussians that the codes belong to (None: all)."""
        splats = self.splats
        if codes is None:
            colors = (splats.f_intr[:, :1], splats.f_intr[:, 1 : (self.sh_degree + 1) ** 2])
            degree = self.sh_degree
        else:
            shown = means if rows is None else means[rows]
            colors = self.appearance.colors(codes, shown, camera.centers[0])
            if self.base_colors:
                base = splats.f_intr[:, 0] if rows is None else splats.f_intr[rows, 0]
                colors = colors + SH_C0 * base + 0.5
            if rows is not None:
                colors = colors.new_zeros(len(means), 3).index_copy(0, rows, colors)
            degree = None
        common = dict(sh_degree=degree, absgrad=self.training and self.absgrad)
        out = self.renderer(
            means, splats.quats, splats.scales, splats.opacities, colors, camera,
            with_geometry=with_geometry, **common,
        )  # fmt: skip
        if with_inverse_depth:
            # Accumulated inverse depth is the picture of Gaussians coloured by it.
            depth = transform_points(camera.viewmats[0, :3], means)[:, 2:]
            inverse = (1 / depth.clamp_min(1e-6)).expand(-1, 3)
            extra = self.renderer(
                means, splats.quats, splats.scales, splats.opacities, inverse, camera,
                sh_degree=None, absgrad=False,
            )  # fmt: skip
            # What the renderer puts behind the Gaussians is no depth.
            behind = (1 - extra["alpha"]) * self.renderer.background(camera)
            out["inverse_depth"] = (extra["rgb"] - behind)[..., :1]
        return out

    # ---- training

    def scene_losses(self) -> dict[str, Tensor]:
        """Losses of the Gaussians themselves, and of the boxes that the maps are read in."""
        values = super().scene_losses()
        if self.appearance is not None:
            values["loss_box"] = self.appearance.box_loss(self.splats.box_coords)
        return values

    def view_losses(self, rows: list[int], inputs, data_samples) -> dict[str, Tensor]:
        """Losses of one view of a batch."""
        (number,) = rows
        image, sample = inputs[number], data_samples[number]
        camera = sample.camera
        codes, maps, shown = None, None, None
        if self.appearance is not None:
            shown = self._rows_in_view(camera)
            codes, maps = self._encode(image, camera, 1.0, shown)
        inverse = getattr(sample, "gt_inverse_depth", None)
        metric = getattr(sample, "gt_depth", None)
        wants_depth = self.depth_weight is not None
        out = self._render_exposure(
            camera,
            codes,
            sample,
            dict(n_views=len(data_samples), exposure=number),
            with_geometry=wants_depth and metric is not None,
            with_inverse_depth=wants_depth and inverse is not None,
            rows=shown,
        )
        prediction, target = out["rgb"].permute(0, 3, 1, 2), image[None]
        mask = getattr(sample, "gt_mask", None)
        losses: dict[str, Tensor] = {}
        keep = None
        if self.mask_head is not None:
            keep = self._feature_mask(maps, image)
            losses["loss_feature_mask"] = self.feature_mask_weight * (1 - keep).square().mean()
            if int(self.iteration) >= self.feature_mask_start:
                prediction, target = prediction * keep, target * keep
        outside = None if mask is None else mask[None]
        losses.update(self.picture_losses(prediction, target, outside))
        if wants_depth and (metric is not None or inverse is not None):
            if metric is not None:
                depth = out["depth"][0, ..., 0]
                truth = metric
                # Sensors write their least and their largest value where they see nothing.
                valid = (truth > truth.min()) & (truth < truth.max())
            else:
                depth, truth = out["inverse_depth"][0, ..., 0], inverse
                valid = truth > 0
            valid = valid if mask is None else valid & mask
            gap = (depth - truth).abs() * valid
            losses["loss_depth"] = self._present_depth_weight() * gap.mean()
        return losses

    def _render_exposure(
        self, camera, codes, sample, kept: dict[str, int], **geometry
    ) -> dict[str, Any]:
        """A photograph, blurred where its path during the exposure is learnt.

        Renders of one exposure are ``kept`` with one number: strategies may take their largest
        gradient.
        """
        means = self.splats.means
        if self.motion is None or not self.training:
            out = self._render_one(camera, codes, means, **geometry)
            self.keep_view(**out["meta"], **kept)
            return self._over_background(out)
        parts = []
        for moved in self.motion.moved_means(means, sample.camera_index):
            part = self._render_one(camera, codes, moved, **geometry)
            self.keep_view(**part["meta"], **kept)
            parts.append(part)
        names = [name for name in parts[0] if name not in ("meta", "normals")]
        out = {
            name: self.motion.blend(
                torch.stack([part[name] for part in parts]), sample.camera_index
            )
            for name in names
        }
        return self._over_background(out)

    def _over_background(self, out: dict[str, Any]) -> dict[str, Any]:
        if self.random_background and self.training:
            color = torch.rand(3, device=out["rgb"].device)
            out["rgb"] = out["rgb"] + (1 - out["alpha"]) * color
        return out

    def _feature_mask(self, maps: Tensor, image: Tensor) -> Tensor:
        logits = self.mask_head(maps.flatten(0, 1)[None])
        logits = nn.functional.interpolate(logits, image.shape[-2:], mode="bilinear")
        return logits.sigmoid()  # (1, 1, H, W)

    def _present_depth_weight(self) -> float:
        first, last = self.depth_weight
        share = min(int(self.iteration) / max(self.depth_iterations, 1), 1.0)
        return first ** (1 - share) * last**share

    # ---- testing

    def predict(
        self, inputs: Tensor | list[Tensor] | None, data_samples: Sequence[SceneDataSample]
    ) -> list[SceneDataSample]:
        """Add sharp renders in the look of the samples' photographs, see :meth:`fill_sample`."""
        found = super().predict(inputs, data_samples)
        self.clear_appearance()
        return found

    def render_sample(self, sample: SceneDataSample, photograph: Tensor | None) -> tuple:
        """Maps of a test view in the look of its photograph, and the number of Gaussians."""
        if photograph is not None:
            self.set_appearance(photograph, sample.camera)
        return self.render(sample.camera), dict(n_gaussians=len(self.splats))
