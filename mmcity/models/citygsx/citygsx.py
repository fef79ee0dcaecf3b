"""CityGS-X: a scene of octree anchors, trained with priors and agreement between views."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmcity.registry import MODELS
from mmcity.structures import Cameras, SceneDataSample
from mmcity.utils.images import to_grey
from mmcity.utils.precision import full_precision

from .objective import Strip, Term
from .resolution import reduce_resolution
from .scene import AnchorScene


@MODELS.register_module()
class CityGSX(AnchorScene):
    """Anchors in an octree, small networks that decode them, and geometry losses.

    Args:
        feat_dim: Width of the anchor features. Defaults to 32.
        n_offsets: Gaussians per anchor. Defaults to 10.
        objective: Config of the losses. Defaults to :class:`CityGSXObjective`.
        **scene: Further arguments of :class:`AnchorScene`.

    Training samples may hold ``inverse_depth``, ``neighbour_image`` and ``neighbour_camera``.
    """

    def __init__(
        self, feat_dim: int = 32, n_offsets: int = 10, objective: dict | None = None, **scene: Any
    ) -> None:
        super().__init__(feat_dim, n_offsets, **scene)
        self.objective = MODELS.build(objective or dict(type="CityGSXObjective"))
        self.extra_losses = self.objective.extra  # so that its weights move with the model

    # ---- training

    def view_losses(self, rows: list[int], inputs, data_samples) -> dict[str, Tensor]:
        """Losses of one view of a batch."""
        (number,), iteration = rows, int(self.iteration)
        picture, sample = self.reduce_resolution(inputs[number], data_samples[number])
        with_geometry = self.objective.needs_geometry(iteration)
        camera, index = sample.camera, sample.get("camera_index")
        view = self.render_view(camera, index, with_geometry, index)
        self.remember(view, camera, len(data_samples))
        neighbour = None
        if self.objective.uses_neighbours(iteration) and "neighbour_image" in sample:
            with torch.no_grad():
                other = self.render_view(sample.neighbour_camera, index)
            neighbour = self.neighbour_maps(sample, other["depth"][0, ..., 0])
        strip = Strip.of(0, picture.shape[1], picture.shape[1])
        shown = self.shown(view)
        terms = self.judge(
            iteration, number, view, picture, sample, shown, neighbour=neighbour, strip=strip
        )
        return {name: term.value() for name, term in terms.items()}

    # The steps of a training view; processes that share a scene take them one by one.

    def reduce_resolution(self, picture: Tensor, sample: SceneDataSample):
        """Picture and sample at the size that the resolution schedule asks for."""
        return reduce_resolution(picture, sample, self.resolution_factor)

    def remember(self, view: dict[str, Any], camera: Cameras, n_views: int) -> None:
        """Keep what :meth:`record_statistics` needs of a training view, if it is called for."""
        splats, more = view["splats"], {name: view[name] for name in ("gaussians", "rows")}
        size = camera.one_size()
        self.keep_view(splats.means2d, ids=splats.ids, size=size, n_views=n_views, **more)

    def shown(self, view: dict[str, Any]) -> dict[str, Tensor]:
        """``scales`` (M, 3) and ``opacities`` (M,) of the Gaussians in a view."""
        gaussians, ids = view["gaussians"], view["splats"].ids
        return dict(scales=gaussians.scales[ids], opacities=gaussians.opacities[ids])

    @full_precision
    def neighbour_maps(self, sample: SceneDataSample, depth: Tensor) -> dict[str, Tensor]:
        """Maps of the second view that the losses need, with rendered depth (H, W)."""
        camera, image = sample.neighbour_camera, sample.neighbour_image
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        return dict(depth=depth, K=camera.Ks[0], viewmat=camera.viewmats[0], grey=to_grey(image))

    @full_precision
    def judge(
        self,
        iteration: int,
        number: int,
        maps: dict[str, Tensor],
        picture: Tensor,
        sample: SceneDataSample,
        shown: dict[str, Tensor],
        *,
        neighbour: dict[str, Tensor] | None,
        strip: Strip,
        total_of: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Term]:
        """Terms of the losses on a strip of a view.

        Args:
            iteration: Counted from 1 in views.
            number: Of the view in the batch.
            maps: Rendered rows of the strip and its halo.
            picture: (3, H, W) photograph, whole.
            sample: Camera, prior.
            shown: See :meth:`shown`, of the Gaussians that this process put into the picture.
            neighbour: See :meth:`neighbour_maps`.
            strip: The rows.
            total_of: Sums a number over the processes. Defaults to None: there is one.
        """
        geometry = None
        if self.objective.needs_geometry(iteration):
            camera = sample.camera
            geometry = dict(
                depth=maps["depth"][0, ..., 0],
                normals=maps["normals"][0].permute(2, 0, 1),
                distances=maps["distances"][0, ..., 0],
                alpha=maps["alpha"][0, ..., 0],
                usable=maps["usable"][0, ..., 0],
                K=camera.Ks[0],
                viewmat=camera.viewmats[0],
                grey=to_grey(picture),
            )
        # One stream of random numbers per view, the same on all processes.
        generator = torch.Generator(picture.device).manual_seed(iteration * 4096 + number)
        return self.objective.terms(
            iteration,
            maps["rgb"][0].permute(2, 0, 1),
            picture,
            **shown,
            geometry=geometry,
            prior=sample.get("inverse_depth"),
            neighbour=neighbour,
            generator=generator,
            strip=strip,
            total_of=total_of,
            extent=self.scene_extent,
        )

    # ---- testing

    def render_sample(self, sample: SceneDataSample, photograph: Tensor | None) -> tuple:
        """Maps of a test view, with its exposure, and the numbers of anchors and Gaussians."""
        image_id = sample.get("camera_index") if self.exposure is not None else None
        view = self.render_view(sample.camera, self.ape_code, image_id=image_id)
        return view, dict(n_anchors=len(self.anchors), n_gaussians=len(view["splats"]))

    def fill_sample(
        self, sample: SceneDataSample, maps: dict[str, Tensor], photograph: Tensor | None
    ) -> None:
        """As in :class:`SceneModel`; depth is that of the composited planes, normals are unit."""
        normals = torch.nn.functional.normalize(maps["normals"], dim=-1)
        super().fill_sample(sample, {**maps, "normals": normals}, photograph)
