"""Localisation of pictures in a map of Gaussians."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmcity.apis.inferencer import Inferencer
from mmcity.apis.scenes.scene_renderer import SceneRenderer
from mmcity.datasets.alignment import read_alignment
from mmcity.models.rap.canonical_view import canonical_view
from mmcity.models.rap.refinement import Refinement, RenderMatchRefiner
from mmcity.models.rap.trainer import poses_to_viewmats
from mmcity.registry import INFERENCERS, MODELS, TASK_UTILS
from mmcity.structures import Cameras, SceneFrame, Sim3
from mmcity.utils.images import list_images, tell_none
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import picture_name
from mmcity.visualization import overlay_halves, to_uint8

from .result import LocalizationResult

#: Share of the network's field of view that a picture of another camera must show.
_WHOLE_VIEW = 0.98


@INFERENCERS.register_module()
class Localizer(Inferencer):
    """Localise pictures in a scene: regress or look up a first pose, then refine it.

    First poses are the pose network's (where one is given) and those of mapped images that
    look alike or lie next to the regressed pose. Refinement renders the map there with the
    query's own intrinsics.

    Example::

        localizer = Localizer(
            SceneRenderer(checkpoint="scene.ply"), ColmapDataset("data/scene", resize=...)
        )
        for result in localizer("queries/"):
            print(result.name, result.status, result.cam_to_world)

    Args:
        scene (SceneRenderer | Callable | str, optional): The map: a renderer, a function from
            a camera to ``rgb``, ``depth``, ``alpha``, or a ``.ply`` file. Without one, poses
            are regressed alone.
        mapped (Dataset, optional): Posed images of the map (``ColmapDataset`` or other
            ``PosedImagesDataset``), for first poses and default intrinsics.
        config (str | Config, optional): Config of a trained pose network, see
            :class:`~mmcity.apis.Inferencer`.
        checkpoint (str, optional): Its weights.
        refiner (dict, optional): Arguments of :class:`RenderMatchRefiner`.
        num_starts (int): First poses from mapped images that look like the query. Defaults
            to 3.
        num_near (int): First poses from mapped images nearest to the regressed pose. Defaults
            to 1.
        start_from_regression (bool): Refine from the regressed pose too. Defaults to True.
        match_photographs (bool): Match a mapped image itself, with the depth of the map, where
            a start is its pose and its intrinsics are the query's. Defaults to True.
        retrieval (dict, optional): Config of what finds mapped images that look like a query.
            Defaults to ``VLADRetrieval``.
        alignment (Sim3 | str, optional): Similarity from the mapped files to metres or to a
            geographic frame (or its JSON file, see
            :func:`~mmcity.datasets.alignment.read_alignment`), for
            ``LocalizationResult.aligned_cam_to_world``.
        device (str, optional): Of the pose network. Defaults to CUDA where it is.
        show_progress (bool): See :class:`~mmcity.apis.Inferencer`. Defaults to True.

    Raises:
        ValueError: If neither a pose network nor mapped images are given.
    """

    def __init__(
        self,
        scene: SceneRenderer | Callable[[Cameras], dict] | str | os.PathLike | None = None,
        mapped: Dataset | None = None,
        config: str | os.PathLike | Any | None = None,
        checkpoint: str | os.PathLike | None = None,
        refiner: dict | None = None,
        num_starts: int = 3,
        num_near: int = 1,
        start_from_regression: bool = True,
        match_photographs: bool = True,
        retrieval: dict | None = None,
        alignment: Sim3 | str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        show_progress: bool = True,
    ) -> None:
        if (config is None) != (checkpoint is None):
            raise ValueError("config, checkpoint: expected both for a pose network, got one")
        if config is None and (mapped is None or scene is None):
            raise ValueError(
                "expected a pose network (config, checkpoint), or a scene and its mapped images"
            )
        super().__init__(config, checkpoint, device, show_progress)
        #: The pose network; None without one.
        self.network = self.model
        if isinstance(scene, (str, os.PathLike)):
            scene = SceneRenderer(checkpoint=scene)
        #: Maps whose colours follow a photograph are shown as the query shows them.
        self._set_appearance = getattr(getattr(scene, "model", None), "set_appearance", None)
        self.render = _render_one(scene) if isinstance(scene, SceneRenderer) else scene
        self.refiner = None
        if self.render is not None:
            self.refiner = RenderMatchRefiner(self.render, **(refiner or {}))
        self.num_starts = num_starts
        self.num_near, self.start_from_regression = num_near, start_from_regression
        self.match_photographs = match_photographs
        self.mapped = mapped
        if isinstance(scene, SceneRenderer) and hasattr(mapped, "express_in"):
            mapped.express_in(scene.frame)
        network = SceneFrame() if self.network is None else self.network.placement.frame
        files = getattr(mapped, "file_frame", SceneFrame())
        #: ``(3,)`` float64, coordinates of the mapped files less those of the cameras inside, and
        #: of the poses of the network.
        self.offset = getattr(mapped, "offset", None)
        self._regressed_offset = files.shift_to(network)
        if self.offset is None:
            place = scene.frame if isinstance(scene, SceneRenderer) else network
            self.offset = files.shift_to(place)
        if isinstance(alignment, (str, os.PathLike)):
            alignment = read_alignment(alignment)
        self.alignment = alignment
        self.retrieval = TASK_UTILS.build(retrieval or dict(type="VLADRetrieval"))
        self._is_fitted = False

    def build_model(self) -> nn.Module | None:
        """The pose network, without what takes part in training only; None without a config."""
        if not self.cfg:
            return None
        model = MODELS.build(self.cfg.model)
        model.discriminator = None
        return model

    def choose_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """All but those of the discriminator."""
        return {k: v for k, v in weights.items() if not k.startswith("discriminator.")}

    # ---- use

    def __call__(
        self, source: str | os.PathLike | np.ndarray | Iterable, K: np.ndarray | None = None
    ) -> Iterator[LocalizationResult]:
        """Localise an image file, a folder, an array, or several of them.

        Args:
            source: Path of an image or folder, array ``(H, W, 3)`` uint8, or an iterable of
                paths and arrays.
            K (np.ndarray, optional): ``(3, 3)`` of all of them. Defaults to that of the mapped
                images, at the query's size.

        Yields:
            One result per image; a file that does not decode gives a ``failed`` one.
        """
        for row, item in enumerate(self.track(_items(source), "localising")):
            if isinstance(item, np.ndarray):
                yield self.localize(item, K, name=f"image_{row}")
                continue
            try:
                found = self.localize(read_image(item, upright=True), K, name=_name(item, source))
            except (OSError, ValueError) as error:
                found = LocalizationResult(_name(item, source), reason=str(error))
            yield found

    def localize(
        self,
        image: np.ndarray | Tensor,
        K: np.ndarray | None = None,
        distortion: np.ndarray | None = None,
        name: str = "image",
        exclude: str | None = None,
        start: np.ndarray | None = None,
    ) -> LocalizationResult:
        """Localise one image.

        Args:
            image: ``(H, W, 3)`` uint8 array or ``(3, H, W)`` float tensor in [0, 1].
            K (np.ndarray, optional): See :meth:`__call__`.
            distortion (np.ndarray, optional): OpenCV's k1, k2, p1, p2, ...
            name (str): For the result.
            exclude (str, optional): Name of a mapped image not to start from.
            start (np.ndarray, optional): First pose ``(4, 4)`` world to camera from elsewhere, in
                the coordinates of the mapped files, which takes the place of all others.

        Raises:
            ValueError: If a first pose is given but there is no map to refine it in.
        """
        if start is not None and self.refiner is None:
            raise ValueError(f"{name}: expected a scene to refine its first pose in, got none")
        image, blank = self.preprocess(image, K, name)
        result = LocalizationResult(name, alignment=self.alignment, offset=self.offset)
        if start is not None:
            begin = time.perf_counter()
            start = np.array(start, np.float64)
            start[:3, 3] += start[:3, :3] @ self.offset
            refined = self.forward(image, [_posed(blank, start)], distortion)
            return self.postprocess(refined, result, ["given"], begin)
        rows: list[int | None] = []  # mapped image of each start; None: the regressed pose
        if self.network is not None:
            begin = time.perf_counter()
            viewmat, problem = self._regress(image, blank)
            result.seconds["regression"] = time.perf_counter() - begin
            if problem:
                result.reason = problem
            else:
                result.regressed = _posed(blank, viewmat)
                if self.start_from_regression or self.refiner is None:
                    rows.append(None)
        begin = time.perf_counter()
        if self.refiner is not None and self.mapped is not None:
            near = [] if result.regressed is None else self._near(result.regressed, exclude)
            rows += dict.fromkeys([*near, *self._similar(image, exclude)])
        if not rows:
            result.reason = result.reason or "no first pose"
            return result
        starts = [
            result.regressed if row is None else _posed(blank, self.mapped.cameras.viewmats[row])
            for row in rows
        ]
        sources = [
            "regression" if row is None else f"mapped:{self.mapped.img_names[row]}" for row in rows
        ]
        if self.refiner is None:
            result.camera, result.source = starts[0], sources[0]
            result.status, result.confidence = "low_confidence", 0.0
            result.reason = "regressed only, not verified against a map"
            return result
        photographs = [self._photograph(row, blank) for row in rows]
        refined = self.forward(image, starts, distortion, photographs)
        return self.postprocess(refined, result, sources, begin)

    # ---- parts

    def preprocess(
        self, image: np.ndarray | Tensor, K: np.ndarray | None = None, name: str = "image"
    ) -> tuple[Tensor, Cameras]:
        """Picture ``(3, H, W)`` in [0, 1], and its camera at the origin; see :meth:`localize`."""
        picture = as_picture(image)
        return picture, self._blank_camera(picture, K, name)

    def forward(
        self,
        image: Tensor,
        starts: list[Cameras],
        distortion: np.ndarray | None = None,
        photographs: list[Tensor | None] | None = None,
    ) -> Refinement:
        """Refine a picture's pose in the map.

        Args:
            image: ``(3, H, W)`` in [0, 1].
            starts: First poses, each one camera.
            distortion: OpenCV's k1, k2, p1, p2, ...
            photographs: Of each start a picture to match in place of the render, or None.
        """
        if self._set_appearance is not None:
            device = _device_of(self._set_appearance.__self__)
            self._set_appearance(image.to(device), starts[0].to(device).to(torch.float32))
        return self.refiner(image, Cameras.cat(starts), distortion, photographs)

    def postprocess(
        self, refined: Refinement, result: LocalizationResult, sources: list[str], begin: float
    ) -> LocalizationResult:
        """Fill a result.

        Args:
            refined: What :meth:`forward` gave.
            result: Changed in place.
            sources: Names of the first poses.
            begin: When the refinement began, by ``time.perf_counter()``.
        """
        result.seconds["refinement"] = time.perf_counter() - begin
        result.camera, result.source = refined.camera, sources[refined.start]
        result.status, result.confidence = refined.status, refined.confidence
        result.reason, result.covariance = refined.reason, refined.covariance
        result.details = {
            key: getattr(refined, key)
            for key in (
                *("num_matches", "num_inliers", "reprojection_rms", "correlation"),
                *("iterations", "sigma_translation", "sigma_rotation"),
            )
        }
        return result

    def visualize(self, result: LocalizationResult, image: np.ndarray) -> list[np.ndarray]:
        """The query, the render at its pose, and half of each, side by side.

        Args:
            result: Of the query; one without a pose, or without a map, gives no picture.
            image: The query ``(H, W, 3)`` uint8.
        """
        if result.camera is None or self.render is None:
            return []
        shown = to_uint8(self.render(result.camera)["rgb"])
        return [np.concatenate([image, shown, overlay_halves(image, shown)], axis=1)]

    def _blank_camera(self, image: Tensor, K: np.ndarray | None, name: str) -> Cameras:
        height, width = image.shape[-2:]
        if K is None:
            if self.mapped is None:
                raise ValueError(
                    f"{name}: expected its intrinsics K, since there is no mapped image"
                )
            like = self.mapped.cameras[0]
            ratio = (width / int(like.widths[0])) / (height / int(like.heights[0]))
            if abs(ratio - 1) > 0.02:
                raise ValueError(
                    f"{name}: expected the proportions "
                    f"{int(like.widths[0])}x{int(like.heights[0])} of the mapped images, got "
                    f"{width}x{height}: give its intrinsics K"
                )
            return like.resize(width, height)
        return Cameras(np.asarray(K, dtype=np.float32), np.eye(4), width, height)

    @torch.no_grad()
    def _regress(self, image: Tensor, camera: Cameras) -> tuple[Tensor | None, str]:
        """Pose of a picture, or why there is none."""
        preprocessor, trained = self.network.data_preprocessor, float(self.network.focal_ratio)
        ratio = float(camera.Ks[0, 0, 0] / camera.widths[0])
        try:
            if not preprocessor.normalize_focal and trained and abs(ratio / trained - 1) > 0.01:
                size = preprocessor.size or tuple(image.shape[-2:])
                image, seen = canonical_view(image, camera.Ks[0], size, trained * size[1])
                if seen < _WHOLE_VIEW:
                    raise ValueError(
                        f"focal length over width: expected {trained:.4f}, which the network "
                        f"knows, got {ratio:.4f}: it needs to see as much"
                    )
            view = preprocessor.view(image, camera)
        except ValueError as error:
            return None, f"not regressed: {error}"
        inputs = preprocessor.normalize(view.to(self.device))[None]
        viewmat = poses_to_viewmats(self.network(inputs).double())[0].cpu()
        apart = torch.from_numpy(self._regressed_offset - self.offset)
        viewmat[:3, 3] -= viewmat[:3, :3] @ apart
        return viewmat, ""

    def _near(self, camera: Cameras, exclude: str | None) -> list[int]:
        """Rows of mapped images whose poses are nearest to a camera's."""
        if not self.num_near:
            return []
        like = self.mapped.cameras
        apart = (like.centers - camera.centers.to(like.centers)).norm(dim=-1)
        forward = like.viewmats[:, 2, :3] @ camera.viewmats[0, 2, :3].to(like.viewmats)
        # A view turned by 90 degrees is about as useless as one half the scene away.
        cost = apart / apart.median().clamp_min(1e-9) + (1 - forward)
        order = cost.argsort().tolist()
        return [r for r in order if self.mapped.img_names[r] != exclude][: self.num_near]

    def _photograph(self, row: int | None, like: Cameras) -> Tensor | None:
        """The mapped image of a start, if it was taken as the query was."""
        if row is None or not self.match_photographs:
            return None
        camera = self.mapped.cameras[row]
        size = like.one_size()
        if camera.one_size() != size or not torch.allclose(
            camera.Ks.double().cpu(), like.Ks.double().cpu(), rtol=0.01, atol=1.0
        ):
            return None
        return self.mapped_image(row)

    def mapped_image(self, row: int) -> Tensor:
        """Picture ``(3, H, W)`` in [0, 1] of a mapped image."""
        return as_picture(self.mapped.load(row)["img"])

    def _similar(self, image: Tensor, exclude: str | None) -> list[int]:
        """Rows of mapped images that look most like the query."""
        if not self.num_starts:
            return []
        if not self._is_fitted:
            self.retrieval.fit(self.mapped_image(row) for row in range(len(self.mapped)))
            self._is_fitted = True
        order = self.retrieval.likeness(image).argsort(descending=True, stable=True).tolist()
        return [r for r in order if self.mapped.img_names[r] != exclude][: self.num_starts]


def as_picture(image: np.ndarray | Tensor) -> Tensor:
    """``(3, H, W)`` in [0, 1] of an array ``(H, W, 3)`` uint8; tensors are left as they are."""
    if isinstance(image, Tensor):
        return image
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


def _device_of(scene: nn.Module) -> torch.device:
    """Device of a scene's parameters."""
    return next(scene.parameters()).device


def _posed(camera: Cameras, viewmat: Tensor) -> Cameras:
    viewmat = torch.as_tensor(viewmat).to(camera.viewmats)
    return Cameras(camera.Ks, viewmat, camera.widths, camera.heights, validate=False)


def _render_one(renderer: SceneRenderer) -> Callable[[Cameras], dict]:
    return lambda camera: next(renderer.iterate(camera.to(torch.float32)))


def _name(item: str | os.PathLike, source) -> str:
    """Relative to the folder that was given, else the file's."""
    is_folder = isinstance(source, (str, os.PathLike)) and Path(source).is_dir()
    return picture_name(Path(item).relative_to(source) if is_folder else Path(item).name)


def _items(source) -> Iterable:
    if isinstance(source, np.ndarray):
        return [source]
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            found = list_images(path, recursive=True)
            if not found:
                raise FileNotFoundError(
                    f"{path}: expected images, found none{tell_none(path, True)}"
                )
            return found
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected an image or a folder, found none")
        return [path]
    return source
