"""Renders of a Gaussian map at known and at perturbed poses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmcity.engine.scene_loading import load_scene
from mmcity.models.rap.perturbation import far_from_validation
from mmcity.registry import TASK_UTILS
from mmcity.structures import Cameras, to_device
from mmcity.structures.geometry import se3_from_rt, se3_inverse
from mmcity.utils.setup_env import register_all_modules

from .budget import SetPlan, UniformBudget
from .observability import MapObservability

#: Draws per view when new poses must keep away from validation poses.
_KEEP_AWAY_TRIES = 10_000
_KEEP_AWAY_KEYS = ("poses", "distance", "degrees")


class ViewSet(NamedTuple):
    """Renders that were made at one go.

    Attributes:
        pictures (Tensor): ``(N, 3, h, w)`` float16 on the CPU, not clamped.
        poses (Tensor): ``(N, 12)`` camera to world, row by row.
        tries (float): Poses drawn per picture.
        fallbacks (int): Pictures at the unperturbed pose, since no perturbed one showed
            anything that the map knows.
        observability (np.ndarray): ``(N,)`` mean of the candidates that were drawn for each, see
            :class:`MapObservability`; NaN where none was drawn or none is measured.
    """

    pictures: Tensor
    poses: Tensor
    tries: float
    fallbacks: int
    observability: np.ndarray


@dataclass
class SynthesisSpec:
    """All that a renderer of views needs, as plain values that travel to another process.

    Attributes:
        map (str): ``.ply`` file or checkpoint of the scene.
        map_config (dict | str | None): Config of a map that is a checkpoint.
        antialiased (bool, optional): For a file of Gaussians: rendering mode it was trained with.
        perturber (dict): Config of a ``PosePerturber``.
        Ks, viewmats (Tensor): Of the training cameras, at the size of the renders.
        widths, heights (Tensor): px.
        references (list[Tensor]): Training photographs ``(3, H, W)`` uint8, for maps whose
            colours follow a photograph; empty for others.
        reference_Ks (Tensor | None): Intrinsics of the references.
        options (dict): Further arguments of :class:`ViewSynthesizer`.
        device (str): Where to render.
    """

    map: str
    perturber: dict
    Ks: Tensor
    viewmats: Tensor
    widths: Tensor
    heights: Tensor
    map_config: Any = None
    antialiased: bool | None = None
    references: list[Tensor] = field(default_factory=list)
    reference_Ks: Tensor | None = None
    options: dict = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("Ks", "viewmats", "widths", "heights", "references", "reference_Ks"):
            setattr(self, name, to_device(getattr(self, name), "cpu"))


def build_synthesizer(spec: SynthesisSpec) -> "ViewSynthesizer":
    """Load the map and make a renderer of views; runs in the worker."""
    register_all_modules()
    scene = load_scene(spec.map, spec.map_config, spec.antialiased).to(spec.device)
    cameras = Cameras(spec.Ks, spec.viewmats, spec.widths, spec.heights, validate=False)
    return ViewSynthesizer(
        scene,
        cameras,
        TASK_UTILS.build(dict(spec.perturber)),
        references=spec.references,
        reference_Ks=spec.reference_Ks,
        **spec.options,
    )


class ViewSynthesizer:
    """Makes the renders that a pose network trains on.

    Args:
        scene (nn.Module): Scene with ``render(cameras, with_geometry)``. If it has
            ``set_appearance(image, camera, blend)``, its colours follow a photograph, which is
            that of the source pose.
        cameras (Cameras): Training cameras at the size of the renders.
        perturber (Callable): Draws a pose ``(3, 4)`` near another: ``perturber(pose, rng)``.
        references (Sequence[Tensor]): Photographs ``(3, H, W)`` uint8 of the cameras.
        reference_Ks (Tensor, optional): ``(N, 3, 3)`` of the references.
        quality (dict | Callable, optional): Score of pictures ``(N, 3, h, w)``, lower is
            better.
        quality_threshold (float): New poses are drawn until the score is below. Defaults to 50.
        max_attempts (int): Draws per picture; the best one is taken then. Defaults to 100.
        min_coverage (float): Share of opaque pixels below which a pose counts as not
            renderable. Defaults to 0.5.
        min_observability (float): Share of what a view shows that mapped photographs must have
            seen; a pose below counts as not renderable. Defaults to 0.
        observability (dict, optional): Arguments of :class:`MapObservability`; None measures
            none. Defaults to None.
        gain (tuple[float, float]): Range of a factor on the colours of a perturbed render.
        blend (tuple[float, float]): Range of the weight of the appearance, for maps that have
            one. Defaults to (0, 2) as published.
        views_per_image (int): Perturbed renders per training camera. Defaults to 1.
        batch_views (int): Pictures rendered at once. Defaults to 8.
        keep_away (dict, optional): ``poses`` (M, 3, 4), ``distance``, ``degrees``: draw poses
            whose nearest of these is both farther and differently turned.
        seed (int): Set ``n`` depends on the seed and on ``n`` alone. Defaults to 7.
    """

    def __init__(
        self,
        scene: Any,
        cameras: Cameras,
        perturber: Callable,
        references: Sequence[Tensor] = (),
        reference_Ks: Tensor | None = None,
        quality: dict | Callable | None = None,
        quality_threshold: float = 50.0,
        max_attempts: int = 100,
        min_coverage: float = 0.5,
        min_observability: float = 0.0,
        observability: dict | None = None,
        gain: tuple[float, float] = (1.0, 1.0),
        blend: tuple[float, float] = (0.0, 2.0),
        views_per_image: int = 1,
        batch_views: int = 8,
        keep_away: dict | None = None,
        seed: int = 7,
    ) -> None:
        if min(views_per_image, batch_views, max_attempts) < 1:
            raise ValueError("views_per_image, batch_views, max_attempts: expected at least 1")
        cameras = cameras.to("cpu")  # poses are drawn there
        self.scene, self.cameras, self.perturber = scene, cameras, perturber
        self.references, self.reference_Ks = list(references), to_device(reference_Ks, "cpu")
        self.quality = TASK_UTILS.build(quality) if isinstance(quality, dict) else quality
        self.quality_threshold, self.max_attempts = quality_threshold, max_attempts
        self.min_coverage, self.gain, self.blend = min_coverage, gain, blend
        self.views_per_image, self.batch_views = views_per_image, batch_views
        self.keep_away, self.seed = keep_away, seed
        self._poses = cameras.cam_to_world[:, :3].double().numpy()  # (N, 3, 4)
        if self.has_appearance and len(self.references) != len(cameras):
            raise ValueError(
                f"the map's colours follow a photograph: expected {len(cameras)} references, got "
                f"{len(self.references)}"
            )
        self.min_observability = min_observability
        self.observability: MapObservability | None = None
        if observability is not None:
            self.observability = self._observe_photographs(observability)

    @property
    def has_appearance(self) -> bool:
        """Whether the colours of the map follow a photograph."""
        return hasattr(self.scene, "set_appearance")

    # ---- use

    def rendered(self) -> Tensor:
        """One render ``(N, 3, h, w)`` at the pose of each photograph."""
        pictures = []
        for rows in self._chunks(range(len(self.cameras))):
            self._take_appearance(rows[0], 1.0)
            pictures.append(self._render(rows, self._poses[rows])[0])
        return torch.cat(pictures)

    def synthesize(self, plan: SetPlan | int) -> ViewSet:
        """A set of perturbed renders, in the order of the plan's sources.

        A number stands for ``views_per_image`` views of each camera, camera by camera.
        """
        if isinstance(plan, int):
            budget = UniformBudget()
            budget.start(len(self.cameras), self.views_per_image, self.seed)
            plan = budget.plan(plan)
        rng = np.random.RandomState([self.seed, plan.number])
        parts = [
            self._perturbed(*([part[slot] for slot in slots] for part in plan[1:]), rng)
            for slots in self._chunks(plan.sources)
        ]
        pictures, poses, tries, fallbacks, seen = zip(*parts)
        flat = torch.from_numpy(np.concatenate(poses)).flatten(1)
        return ViewSet(
            torch.cat(pictures), flat, sum(tries) / len(flat), sum(fallbacks), np.concatenate(seen)
        )

    # ---- parts

    def _chunks(self, sources: Sequence[int]) -> list[list[int]]:
        """Slots that are rendered at once: of one photograph where colours follow it."""
        groups: list[list[int]] = []
        for slot, row in enumerate(sources):
            full = not groups or len(groups[-1]) == self.batch_views
            if full or (self.has_appearance and sources[groups[-1][0]] != row):
                groups.append([])
            groups[-1].append(slot)
        return groups

    def _perturbed(
        self, rows: list[int], moved: Sequence[bool], rng
    ) -> tuple[Tensor, np.ndarray, int, int, np.ndarray]:
        count = len(rows)
        best: list[tuple | None] = [None] * count  # score, picture, pose
        wants_new = np.array(moved, bool)
        seen, draws = np.zeros(count), np.zeros(count, int)
        blend = 1.0
        if self.has_appearance:
            # Candidates are compared at the look of the photograph itself.
            blend = 1.0 if self.quality is not None else float(rng.uniform(*self.blend))
            self._take_appearance(rows[0], blend)
        for _ in range(self.max_attempts):
            open_slots = np.flatnonzero(wants_new)
            if not len(open_slots):
                break
            poses = np.stack([self._draw(rows[slot], rng) for slot in open_slots])
            pictures, is_usable, known = self._render([rows[slot] for slot in open_slots], poses)
            draws[open_slots] += 1
            seen[open_slots] += known
            scores = np.zeros(len(open_slots))
            if self.quality is not None:
                scores = np.asarray(self.quality(pictures.float()), dtype=float)
            for k, slot in enumerate(open_slots):
                if not is_usable[k]:
                    continue
                if best[slot] is None or scores[k] < best[slot][0]:
                    best[slot] = (scores[k], pictures[k], poses[k])
                wants_new[slot] = self.quality is not None and scores[k] >= self.quality_threshold
        still = [slot for slot in range(count) if best[slot] is None]
        if still:  # not to be moved, or nothing to see around there: the pose itself
            sources = [rows[slot] for slot in still]
            pictures = self._render(sources, self._poses[sources])[0]
            for k, slot in enumerate(still):
                best[slot] = (0.0, pictures[k], self._poses[rows[slot]])
        chosen = np.stack([entry[2] for entry in best])
        out = torch.stack([entry[1] for entry in best])
        if self.has_appearance and self.quality is not None:
            self._take_appearance(rows[0], float(rng.uniform(*self.blend)))
            out = self._render(rows, chosen)[0]
        gains = torch.from_numpy(rng.uniform(*self.gain, size=count)).to(out.dtype)
        lost = sum(moved[slot] for slot in still)
        mean_seen = np.where(draws > 0, seen / draws.clip(1), np.nan)
        return out * gains[:, None, None, None], chosen, int(draws.sum()), lost, mean_seen

    def _draw(self, row: int, rng) -> np.ndarray:
        pose = self.perturber(self._poses[row], rng)
        if self.keep_away is None:
            return pose
        away = self.keep_away
        for _ in range(_KEEP_AWAY_TRIES):
            if len(far_from_validation(pose[None], *(away[k] for k in _KEEP_AWAY_KEYS))):
                return pose
            pose = self.perturber(self._poses[row], rng)
        raise ValueError(
            f"keep_away: expected a pose near training image {row} that is {away['distance']} "
            f"and {away['degrees']} degrees away from all validation poses, found none: widen "
            "the perturber, or ask for less distance"
        )

    def _take_appearance(self, row: int, blend: float) -> None:
        if not self.has_appearance:
            return
        image = self.references[row].float() / 255
        K = self.cameras.Ks[row] if self.reference_Ks is None else self.reference_Ks[row]
        height, width = image.shape[-2:]
        camera = Cameras(K, self.cameras.viewmats[row], width, height, validate=False)
        device = next(self.scene.parameters()).device
        self.scene.set_appearance(image.to(device), camera.to(device), blend)

    def _observe_photographs(self, options: dict) -> MapObservability:
        depths, alphas = [], []
        for first in range(0, len(self.cameras), self.batch_views):
            rows = list(range(first, min(first + self.batch_views, len(self.cameras))))
            out = self._render_at(self._cameras(rows, self._poses[rows]), True)
            depths.append(out["depth"][..., 0].cpu())
            alphas.append(out["alpha"][..., 0].cpu())
        return MapObservability(self.cameras, torch.cat(depths), torch.cat(alphas), **options)

    def _cameras(self, rows: Sequence[int], poses: np.ndarray) -> Cameras:
        top = torch.from_numpy(np.ascontiguousarray(poses))
        viewmats = se3_inverse(se3_from_rt(top[..., :3], top[..., 3])).to(self.cameras.viewmats)
        rows, like = list(rows), self.cameras
        return Cameras(
            like.Ks[rows], viewmats, like.widths[rows], like.heights[rows], validate=False
        )

    @torch.no_grad()
    def _render_at(self, cameras: Cameras, with_geometry: bool) -> dict[str, Any]:
        device = next(self.scene.parameters()).device
        return self.scene.render(cameras.to(device), with_geometry=with_geometry)

    def _render(
        self, rows: Sequence[int], poses: np.ndarray
    ) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Pictures ``(n, 3, h, w)``, which are usable, and how observable each is (or NaN)."""
        cameras = self._cameras(rows, poses)
        out = self._render_at(cameras, self.observability is not None)
        pictures = out["rgb"].permute(0, 3, 1, 2).to("cpu", torch.float16)
        alphas = out["alpha"][..., 0].cpu()
        coverage = (alphas > 0.5).float().flatten(1).mean(1).numpy()
        is_usable, seen = coverage >= self.min_coverage, np.full(len(rows), np.nan)
        if self.observability is not None:
            seen = self.observability(cameras, out["depth"][..., 0].cpu(), alphas).numpy()
            is_usable &= seen >= self.min_observability
        return pictures, is_usable, seen
