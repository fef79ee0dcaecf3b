"""From Gaussians to labelled voxels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcity.apis import SceneRenderer
from mmcity.datasets import ColmapDataset
from mmcity.datasets.occupancy_labels import UNIFIED_CLASSES
from mmcity.evaluation.functional.occupancy import count_occupancy
from mmcity.structures import (
    Cameras,
    Gaussians,
    VoxelGrid,
    read_frame_of,
    read_gaussians,
    read_voxel_grid,
    write_voxel_grid,
)
from mmcity.structures.scene_frame import SceneFrame, sidecar, write_frame
from mmcity.utils.fileio import write_npy
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import without_suffix
from mmcity.visualization import contact_sheet, write_image
from mmcity.visualization.occupancy import render_birds_eye
from mmcity.workflow import STAGES, Finding, Stage, StageContext
from mmcity_ops import gaussians_to_voxels

from .common import toytown_world

_OTHER = UNIFIED_CLASSES.index("other")
#: Labels with the last axis up, by the axis of the world that points up; right-handed.
_UPRIGHT = {
    "z": lambda labels: labels,
    "y": lambda labels: labels.transpose(1, 2).flip(1),
    "-y": lambda labels: labels.transpose(1, 2).flip(2),
}


def vote_labels(
    gaussians: Gaussians, cameras: Cameras, depths: list[Tensor], labels: list[Tensor], count: int
) -> Tensor:
    """Shares of each class among the pixels in which a Gaussian lies on the visible surface.

    Args:
        gaussians: N Gaussians.
        cameras: C cameras of the label maps.
        depths: Rendered z-depth ``(H, W)`` of each camera.
        labels: Classes ``(H, W)`` of each camera, at the size of the depth.
        count: Number of classes K.

    Returns:
        float32 ``(N, K)``; the class of a Gaussian that no camera sees is that of the nearest
        one that is seen.
    """
    votes = torch.zeros(len(gaussians), count)
    for row in range(len(cameras)):
        pixels, z = cameras[row].project(gaussians.means)
        column, line = pixels[0].floor().long().unbind(-1)
        z = z[0].reshape(-1)
        height, width = depths[row].shape
        inside = (z > 0) & (column >= 0) & (column < width) & (line >= 0) & (line < height)
        at = inside.nonzero()[:, 0]
        surface = depths[row][line[at], column[at]]
        on_surface = (z[at] - surface).abs() < 0.02 * surface + 2 * gaussians.scales[at].amax(1)
        at = at[on_surface]
        votes[at, labels[row][line[at], column[at]].long()] += 1
    seen = votes.sum(1) > 0
    if bool(seen.any()) and not bool(seen.all()):
        from scipy.spatial import cKDTree

        tree = cKDTree(gaussians.means[seen].numpy())
        _, nearest = tree.query(gaussians.means[~seen].numpy())
        votes[~seen] = votes[seen][torch.from_numpy(nearest)]
    return votes / votes.sum(1, keepdim=True).clamp_min(1)


def voxelize_gaussians(
    gaussians: Gaussians,
    votes: Tensor,
    low: tuple[float, float, float],
    voxel_size: tuple[float, float, float],
    shape: tuple[int, int, int],
    min_density: float,
) -> VoxelGrid:
    """Labels of a grid in the frame of the Gaussians; thin density is free (label 0)."""
    gaussians, votes = gaussians.to(torch.float32), votes.float()
    corner = torch.tensor(low)
    edge = torch.tensor(voxel_size)
    high = corner + edge * torch.tensor(shape)
    reach = 3 * gaussians.scales.amax(1, keepdim=True)
    near = ((gaussians.means + reach > corner) & (gaussians.means - reach < high)).all(1)
    g, features = gaussians[near], votes[near]
    # A Gaussian thinner than a voxel would slip between the centres.
    scales = g.scales.clamp_min(float(edge.min()) / 2)
    density, shares = gaussians_to_voxels(
        g.means, g.opacities, features, quats=g.quats, scales=scales,
        vol_range=[*low, *high.tolist()], voxel_size=list(voxel_size), grid_shape=list(shape),
    )  # fmt: skip
    labels = shares.argmax(-1)
    labels[density[..., 0] < min_density] = 0
    return VoxelGrid(labels, origin=corner, voxel_size=edge)


def exact_labels(renderer, grid_to_world: np.ndarray, low, voxel_size, shape) -> Tensor:
    """Unified labels ``(X, Y, Z)`` of the exact static town."""
    from mmcity.toytown.truth.occupancy import Grid, voxelize
    from mmcity.toytown.world.taxonomy import label_map

    classes = voxelize(renderer, Grid(grid_to_world, tuple(low), tuple(voxel_size), tuple(shape)))
    table = label_map("unified").astype(np.int64)
    table[0] = 0
    return torch.from_numpy(table[classes])


@STAGES.register_module()
@dataclass(eq=False)
class OccupancyFromGaussians(Stage):
    """Label the Gaussians by 2D label maps of the images, then fill a grid.

    Label maps are ``gt/labels/NAME.png`` of toy towns; a capture without any gets one class.

    Args:
        voxel_size: Metres. Defaults to 0.4.
        min_density: Summed opacity of an occupied voxel. Defaults to 0.5.
        extent: Lower and upper corner; None takes the box of the mapped points (2nd to 98th
            percentile).
        up: Axis of the world that points up in the picture: ``z``, ``y`` or ``-y``. Defaults
            to ``z``.
    """

    needs = ("poses", "baked")
    uses = ("images",)

    voxel_size: float = 0.4
    min_density: float = 0.5
    extent: tuple[float, float, float, float, float, float] | None = None
    up: str = "z"

    def __post_init__(self) -> None:
        if self.up not in _UPRIGHT:
            raise ValueError(f"up: expected one of {sorted(_UPRIGHT)}, got {self.up!r}")

    def run(self, context: StageContext) -> dict[str, Path]:
        """``occupancy`` of the map, its ``votes``, and ``exact`` labels where there are some."""
        scene = ColmapDataset(
            context.artefact("poses", "scene"), split="train", resize=dict(long_side=320)
        )
        path = context.artefact("baked", "scene")
        gaussians = read_gaussians(path)
        scene.express_in(gaussians.frame or SceneFrame())
        votes = self._votes(context, scene, path, gaussians)
        low, high = self._extent(scene)
        shape = tuple(int(n) for n in np.ceil((high - low) / self.voxel_size))
        grid = voxelize_gaussians(
            gaussians, votes, tuple(low.tolist()), (self.voxel_size,) * 3, shape, self.min_density
        )
        votes_file = context.folder / "votes.npy"
        write_npy(votes_file, votes.numpy().astype(np.float16))
        target = context.folder / "occupancy.npz"
        write_voxel_grid(target, grid)
        write_frame(sidecar(target), gaussians.frame)
        made = {"occupancy": target, "votes": votes_file}
        pictures = [self._picture(grid.labels)]
        exact = self._exact(context, grid)
        if exact is not None:
            pictures.append(self._picture(exact))
            made["exact"] = context.folder / "exact.npy"
            write_npy(made["exact"], exact.numpy().astype(np.uint8))
        what = "occupancy from Gaussians" + (" (left), exact (right)" if exact is not None else "")
        made[what] = context.folder / "occupancy.png"
        write_image(context.folder / "occupancy.png", contact_sheet([pictures], cell_width=420))
        return made

    def _picture(self, labels: Tensor) -> np.ndarray:
        upright = _UPRIGHT[self.up](labels).numpy().astype(np.uint8)
        return render_birds_eye(upright, scale=2)

    @staticmethod
    def _votes(context: StageContext, scene, path: Path, gaussians: Gaussians) -> Tensor:
        truth = context.find("images", "truth")
        count = len(UNIFIED_CLASSES)
        if truth is None or not (truth / "labels").is_dir():
            votes = torch.zeros(len(gaussians), count)
            votes[:, _OTHER] = 1
            return votes
        from mmcity.toytown.world.taxonomy import label_map

        table = label_map("unified")
        depths = [view["depth"] for view in SceneRenderer(checkpoint=path).iterate(scene.cameras)]
        labels = []
        for name, depth in zip(scene.img_names, depths):
            classes = Image.fromarray(
                read_image(truth / "labels" / f"{without_suffix(name)}.png", None)
            )
            size = (depth.shape[1], depth.shape[0])
            classes = np.asarray(classes.resize(size, Image.Resampling.NEAREST))
            labels.append(torch.from_numpy(table[classes]))
        return vote_labels(gaussians, scene.cameras, depths, labels, count)

    def _extent(self, scene) -> tuple[np.ndarray, np.ndarray]:
        if self.extent is not None:
            return np.array(self.extent[:3]), np.array(self.extent[3:])
        low, high = np.percentile(scene.points3D.xyz, [2, 98], axis=0)
        return low - 2 * self.voxel_size, high + 2 * self.voxel_size

    @staticmethod
    def _exact(context: StageContext, grid: VoxelGrid) -> Tensor | None:
        renderer = toytown_world(context)
        if renderer is None:
            return None
        return exact_labels(
            renderer, np.eye(4), grid.origin.tolist(), grid.voxel_size.tolist(), grid.shape
        )

    def check(self, context: StageContext) -> list[Finding]:
        """Occupied voxels, and IoU with the exact town."""
        grid = read_voxel_grid(context.artefact(context.name, "occupancy"))[0]
        findings = [Finding("occupied voxels", float(grid.occupied.sum()))]
        file = context.find(context.name, "exact")
        if file is None:
            return findings
        exact = torch.from_numpy(np.load(file)).long()
        frame = read_frame_of(context.artefact(context.name, "occupancy"))
        seen = _observed(context, grid, frame or SceneFrame())
        counts = count_occupancy(grid.labels, exact, len(UNIFIED_CLASSES), 0, seen)
        against = f"exact occupancy, {float(grid.voxel_size[0]):g} m, observed voxels"
        present = [c for c in range(1, len(UNIFIED_CLASSES)) if bool(counts.present()[c])]
        return [
            *findings,
            Finding("occupancy IoU", counts.binary_iou(), "%", against, (50.0, 25.0)),
            Finding(
                "mean IoU of the classes",
                counts.mean_iou(torch.tensor(present)),
                "%",
                against,
                (40.0, 15.0),
            ),
        ]


def _observed(context: StageContext, grid: VoxelGrid, frame: SceneFrame) -> Tensor:
    """Voxels that lie before, or at most one voxel behind, what a mapped image sees."""
    truth = context.artefact("images", "truth")
    scene = ColmapDataset(context.artefact("poses", "scene"), split="train")
    scene.express_in(frame)
    index = torch.stack(
        torch.meshgrid(*[torch.arange(n) for n in grid.shape], indexing="ij"), -1
    ).reshape(-1, 3)
    centers = grid.index_to_world(index).float()
    seen = torch.zeros(len(centers), dtype=torch.bool)
    for row, name in enumerate(scene.img_names):
        depth = torch.from_numpy(np.load(truth / "depths" / f"{without_suffix(name)}.npy"))
        rest = (~seen).nonzero()[:, 0]
        pixels, z = scene.cameras[row].project(centers[rest])
        column, line = pixels[0].floor().long().unbind(-1)
        z = z[0].reshape(-1)
        height, width = depth.shape
        inside = (z > 0) & (column >= 0) & (column < width) & (line >= 0) & (line < height)
        at = inside.nonzero()[:, 0]
        limit = depth[line[at], column[at]]
        limit = torch.where(limit > 0, limit, torch.inf)  # 0 is the sky
        seen[rest[at[z[at] <= limit + float(grid.voxel_size.max())]]] = True
    return seen.reshape(tuple(grid.shape))
