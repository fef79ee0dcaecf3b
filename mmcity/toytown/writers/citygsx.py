"""Aerial survey in the CityGS-X layout, with depth priors and exact geometry aside."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from scipy.ndimage import gaussian_filter, zoom

from mmcity.datasets.io import write_colmap_model
from mmcity.toytown.motion.flight import survey_flight
from mmcity.toytown.sensors.cameras import View
from mmcity.toytown.sensors.renderer import Renderer
from mmcity.toytown.truth.sparse_points import make_colmap_model
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.town import World, build_world, stream
from mmcity.toytown.writers.common import Output, render_all, save_image
from mmcity.utils.fileio import atomic_path, write_json, write_npy
from mmcity.utils.picture_files import read_image

#: Images, image size and sparse points of each preset size.
PRESETS = {
    "tiny": (24, (320, 240), 4000),
    "small": (80, (480, 360), 20000),
    "medium": (400, (960, 720), 120000),
}
#: Every 8th image is held out.
TEST_EVERY = 8

_README = """# Toytown, CityGS-X layout

A procedural street block seen by a survey drone. Made by
`mmcity data toytown`; `toytown.json` holds the settings and checksums.

| path | content |
| --- | --- |
| `train/rgbs/NNNNNN.jpg` | all {images} images, {width}x{height} |
| `val/rgbs/NNNNNN.jpg` | the {tests} held-out images, again |
| `train/depths/NNNNNN.png` | 16-bit inverse depth as a mono-depth network would guess it: \
unknown scale and shift per image, blurred, noisy |
| `sparse/0` | COLMAP model, binary and text: {points} points, poses of all images |
| `gt/depths/NNNNNN.npy` | exact z-depth in metres, float32, 0 where the sky is seen |
| `gt/normals/NNNNNN.npy` | exact world normals towards the camera, float16 |
| `gt/labels/NNNNNN.png` | class of each pixel (`mmcity.toytown.WorldClass`) |
| `gt/depth_priors.json` | per image: inverse depth = scale * value / 65536 + offset |
| `gt/mesh.ply` | exact surface of the town, up to 40 m around it |
| `gt/visible_points.ply` | points on the surface that at least one image sees |

World: metres, x east, y north, z up. Cameras: OpenCV axes, pixel centres at +0.5.
"""


@dataclass(frozen=True)
class _Task:
    name: str
    view: View
    is_test: bool
    index: int


def _setup(config: ToytownConfig, root: str) -> tuple[Renderer, ToytownConfig, Path]:
    return Renderer(build_world(config)), config, Path(root)


def _paths(root: Path, task: _Task) -> dict[str, Path]:
    paths = {
        "rgb": root / "train" / "rgbs" / f"{task.name}.jpg",
        "prior": root / "train" / "depths" / f"{task.name}.png",
        "depth": root / "gt" / "depths" / f"{task.name}.npy",
        "normal": root / "gt" / "normals" / f"{task.name}.npy",
        "label": root / "gt" / "labels" / f"{task.name}.png",
    }
    if task.is_test:
        paths["test"] = root / "val" / "rgbs" / f"{task.name}.jpg"
    return paths


def make_depth_prior(
    depth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float, float]:
    """Inverse depth as a mono-depth network would guess it.

    Args:
        depth: (H, W) z-depth, 0 for the sky.
        rng: Source of randomness.

    Returns:
        tuple: (H, W) uint16; scale and offset with inverse depth = scale * value / 65536 +
        offset, up to blur (0.4 % of the width) and noise (2 %, smooth).
    """
    h, w = depth.shape
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-3), 0).astype(np.float64)
    blurred = gaussian_filter(inverse, 0.004 * w)
    coarse = rng.normal(0, 0.02, (max(h // 40, 2), max(w // 40, 2)))
    smooth = zoom(coarse, (h / coarse.shape[0], w / coarse.shape[1]), order=1)[:h, :w]
    guess = blurred * (1 + smooth)
    top = float(np.quantile(guess, 0.999))
    scale = top / float(rng.uniform(0.45, 0.85))
    offset = -scale * float(rng.uniform(0.02, 0.1))
    value = (guess - offset) / scale
    value = value + rng.normal(0, 0.001, value.shape)
    return np.clip(value * 65536 + 0.5, 0, 65535).astype(np.uint16), scale, offset


def _render(context: tuple[Renderer, ToytownConfig, Path], task: _Task) -> tuple[float, float]:
    renderer, config, root = context
    paths = _paths(root, task)
    rng = stream(config, "prior", config.sequence_seed, task.index)
    if all(p.is_file() for p in paths.values()):
        _, scale, offset = make_depth_prior(np.load(paths["depth"]), rng)
        return scale, offset
    frame = renderer.render(task.view)
    prior, scale, offset = make_depth_prior(frame.depth, rng)
    for key in ("rgb", "test"):
        if key in paths:
            save_image(paths[key], frame.rgb)
    save_image(paths["prior"], prior)
    save_image(paths["label"], frame.cls)
    write_npy(paths["depth"], frame.depth)
    write_npy(paths["normal"], frame.normal.astype(np.float16))
    return scale, offset


def write_citygsx(
    out: str | os.PathLike,
    config: ToytownConfig,
    image_size: tuple[int, int] | None = None,
    workers: int = 1,
    num_images: int | None = None,
    num_points: int | None = None,
    altitude: float = 55.0,
    test_every: int = TEST_EVERY,
) -> Path:
    """Write an aerial survey of a toy town in the CityGS-X layout.

    Moving objects are left out, so that all images show one scene.

    Args:
        out: Folder of the scene; a finished one with these settings is left as it is, an
            interrupted one is completed.
        config: The town.
        image_size: Width and height; None takes the preset of ``config.size``.
        workers: Processes that render. Defaults to 1.
        num_images: None takes the preset.
        num_points: Sparse points; None takes the preset.
        altitude: Flight height in metres. Defaults to 55.
        test_every: Every n-th image is held out. Defaults to 8.

    Returns:
        Path: The folder.

    Raises:
        FileExistsError: If the folder holds something else.
    """
    count, size, points = PRESETS[config.size]
    count, points = num_images or count, num_points or points
    width, height = image_size or size
    output = Output.open(
        out, "citygsx", config, image_size=[width, height], num_images=count, num_points=points,
        altitude=altitude, test_every=test_every,
    )  # fmt: skip
    if output.is_finished:
        return output.root
    root = output.root
    renderer = Renderer(build_world(config))
    rng = stream(config, "flight", config.sequence_seed)
    views = survey_flight(renderer.world, count, width, height, rng, altitude)
    tasks = [
        _Task(f"{k:06d}", view, k % test_every == test_every // 2, k)
        for k, view in enumerate(views)
    ]
    context, arguments = (renderer, config, root), (config, str(root))
    priors = render_all(_render, tasks, _setup, arguments, workers, "citygsx", context)
    images = [read_image(_paths(root, t)["rgb"]) for t in tasks]
    names = [f"{t.name}.jpg" for t in tasks]
    model = make_colmap_model(
        renderer, views, names, images, points, stream(config, "points", config.sequence_seed)
    )
    for ext in (".bin", ".txt"):
        write_colmap_model(model, root / "sparse" / "0", ext)
    parameters = {t.name: {"scale": s, "offset": o} for t, (s, o) in zip(tasks, priors)}
    write_json(root / "gt" / "depth_priors.json", parameters)
    _write_mesh(renderer.world, root / "gt" / "mesh.ply")
    _write_visible_points(tasks, root, root / "gt" / "visible_points.ply")
    tests = sum(t.is_test for t in tasks)
    counts = {"images": count, "test_images": tests, "points": len(model.points3D)}
    readme = _README.format(
        images=count, width=width, height=height, tests=tests, points=len(model.points3D)
    )
    return output.finish(counts, readme)


def _write_mesh(world: World, path: Path, margin: float = 40.0) -> None:
    mesh = world.mesh
    middle = mesh.vertices[mesh.faces][:, :, :2].mean(1)
    keep = ((middle > world.low - margin) & (middle < world.high + margin)).all(1)
    used, faces = np.unique(mesh.faces[keep], return_inverse=True)
    surface = trimesh.Trimesh(mesh.vertices[used], faces.reshape(-1, 3), process=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(surface.export(file_type="ply"))


def _write_visible_points(
    tasks: list[_Task], root: Path, path: Path, spacing: float = 0.15, stride: int = 2
) -> None:
    """Unproject the exact depths and keep one point per cell of ``spacing`` metres."""
    points = np.zeros((0, 3))
    for task in tasks:
        depth = np.load(_paths(root, task)["depth"])[::stride, ::stride]
        pixels = task.view.pixel_grid()[::stride, ::stride]
        rays = task.view.camera_rays(pixels.reshape(-1, 2))
        near = ((depth > 0) & (depth < 200)).ravel()
        local = rays[near] * depth.ravel()[near, None]
        new = local @ task.view.cam_to_world[:3, :3].T + task.view.center
        points = np.concatenate([points, new])
        cell = np.floor(points / spacing).astype(np.int64)
        key = (cell[:, 0] * 73856093) ^ (cell[:, 1] * 19349663) ^ (cell[:, 2] * 83492791)
        _, first = np.unique(key, return_index=True)
        points = points[np.sort(first)]
    with atomic_path(path) as temporary:
        cloud = trimesh.PointCloud(points.astype(np.float32))
        temporary.write_bytes(cloud.export(file_type="ply"))
