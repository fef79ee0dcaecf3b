"""Street-level COLMAP scene for localisation: a mapping walk and queries of another day."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcity.datasets.io import write_colmap_model
from mmcity.toytown.motion.traffic import Traffic, simulate_traffic
from mmcity.toytown.motion.walks import street_walk, walk_stretches
from mmcity.toytown.sensors.cameras import View
from mmcity.toytown.sensors.effects import SensorEffects, render_with_effects
from mmcity.toytown.sensors.renderer import Renderer
from mmcity.toytown.truth.sparse_points import make_colmap_model
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.town import build_world, stream
from mmcity.toytown.writers.common import Output, render_all, save_image
from mmcity.utils.fileio import write_npy, write_text
from mmcity.utils.picture_files import read_image

#: Mapping images, queries, image size and sparse points of each preset size.
PRESETS = {
    "tiny": (40, 10, (320, 240), 5000),
    "small": (120, 40, (480, 360), 20000),
    "medium": (600, 200, (640, 480), 100000),
}
#: Seconds between two pictures of a walk.
_INTERVAL = 1.5
#: Metres of sidewalk per mapping image.
_SPACING = 2.0

_README = """# Toytown, street-level localisation scene

A walk along the sidewalks (the map) and a second walk on another day (the queries). Made by
`mmcity data toytown`; `toytown.json` holds the settings and checksums.

| path | content |
| --- | --- |
| `images/map_NNNN.jpg` | {mapped} mapping images, {width}x{height} |
| `images/query_NNNN.jpg` | {queries} queries: other people and vehicles, other exposure |
| `list_test.txt` | names of the queries |
| `queries_unmapped.txt` | those of them taken in the quarter that the mapping walk left out |
| `sparse/0` | COLMAP model, binary and text: poses of all images, {points} points of the map |
| `gt/depths/NAME.npy` | exact z-depth in metres, float32, 0 where the sky is seen |
| `gt/moving/NAME.png` | 255 where a moving object is seen |

World: metres, x east, y north, z up. Cameras: OpenCV axes, pixel centres at +0.5.
"""


@dataclass(frozen=True)
class _Task:
    name: str
    view: View
    time: float
    day: int
    index: int
    effects: SensorEffects


class _Context:
    def __init__(
        self, config: ToytownConfig, root: Path, renderer: Renderer, seconds: tuple
    ) -> None:
        self.config, self.root, self.renderer, self.seconds = config, root, renderer, seconds
        self._days: dict[int, Traffic] = {}

    def traffic(self, day: int) -> Traffic:
        if day not in self._days:
            other = ToytownConfig.from_dict(
                {**self.config.to_dict(), "sequence_seed": 2 * self.config.sequence_seed + day}
            )
            self._days[day] = simulate_traffic(self.renderer.world, other, self.seconds[day])
        return self._days[day]


def _setup(config: ToytownConfig, root: str, seconds: tuple) -> _Context:
    return _Context(config, Path(root), Renderer(build_world(config)), seconds)


def _paths(root: Path, task: _Task) -> dict[str, Path]:
    return {
        "rgb": root / "images" / f"{task.name}.jpg",
        "depth": root / "gt" / "depths" / f"{task.name}.npy",
        "moving": root / "gt" / "moving" / f"{task.name}.png",
    }


def _render(context: _Context, task: _Task) -> None:
    paths = _paths(context.root, task)
    if all(p.is_file() for p in paths.values()):
        return
    traffic = context.traffic(task.day)
    rng = stream(context.config, "sensor", context.config.sequence_seed, task.index)
    frame = render_with_effects(
        context.renderer,
        _drifting(task.view, task.time, rng),
        lambda t: _away_from(traffic.bodies(t), task.view),
        task.time,
        task.effects,
        rng,
    )
    moving = frame.instance > len(context.renderer.world.instances)
    save_image(paths["rgb"], frame.rgb)
    write_npy(paths["depth"], frame.depth)
    save_image(paths["moving"], np.where(moving, 255, 0).astype(np.uint8))


def _drifting(view: View, middle: float, rng: np.random.Generator) -> Callable[[float], View]:
    """The hand does not hold still: the path that motion blur averages over.

    At time ``middle`` the camera is where ``view`` says.
    """
    velocity = np.append(rng.normal(0, 0.5, 2), 0.0)
    spin = rng.normal(0, 0.25)

    def view_at(time: float) -> View:
        dt = time - middle
        c, s = np.cos(spin * dt), np.sin(spin * dt)
        pose = view.cam_to_world.copy()
        pose[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ pose[:3, :3]
        pose[:3, 3] += velocity * dt
        return View(view.K, pose, view.width, view.height, view.distortion)

    return view_at


def _away_from(bodies: list, view: View, radius: float = 1.6) -> list:
    """Leave out whoever would stand in the camera."""
    return [b for b in bodies if np.hypot(*(b.pose[:2, 3] - view.center[:2])) > radius]


def write_colmap_loc(
    out: str | os.PathLike,
    config: ToytownConfig,
    image_size: tuple[int, int] | None = None,
    workers: int = 1,
    num_mapping: int | None = None,
    num_queries: int | None = None,
    num_points: int | None = None,
    query_shutter: float = 0.0,
    spacing: float = _SPACING,
) -> Path:
    """Write a street-level localisation scene of a toy town.

    Args:
        out: Folder of the scene; a finished one with these settings is left as it is, an
            interrupted one is completed.
        config: The town.
        image_size: Width and height; None takes the preset of ``config.size``.
        workers: Processes that render. Defaults to 1.
        num_mapping: Mapping images; None takes the preset.
        num_queries: Queries, a fifth of them from a quarter that is not mapped; None takes
            the preset.
        num_points: Sparse points; None takes the preset.
        query_shutter: Seconds of exposure of the queries, for motion blur. Defaults to 0.
        spacing: Metres of sidewalk per mapping image. Defaults to 2.

    Returns:
        Path: The folder.

    Raises:
        FileExistsError: If the folder holds something else.
    """
    mapped, queries, size, points = PRESETS[config.size]
    mapped, queries = num_mapping or mapped, num_queries or queries
    points = num_points or points
    width, height = image_size or size
    output = Output.open(
        out, "colmap_loc", config, image_size=[width, height], num_mapping=mapped,
        num_queries=queries, num_points=points, query_shutter=query_shutter,
        **({} if spacing == _SPACING else {"spacing": spacing}),
    )  # fmt: skip
    if output.is_finished:
        return output.root
    root = output.root
    seconds = (mapped * _INTERVAL, queries * _INTERVAL)
    context = _setup(config, str(root), seconds)
    renderer = context.renderer
    length = mapped * spacing
    tasks, unmapped = _plan(
        renderer, config, mapped, queries, (width, height), query_shutter, length
    )
    arguments = (config, str(root), seconds)
    render_all(_render, tasks, _setup, arguments, workers, "colmap_loc", context)

    images = [read_image(_paths(root, t)["rgb"]) for t in tasks]
    renderer.set_bodies([])
    model = make_colmap_model(
        renderer,
        [t.view for t in tasks],
        [f"{t.name}.jpg" for t in tasks],
        images,
        points,
        stream(config, "points", config.sequence_seed),
        is_mapped=[t.day == 0 for t in tasks],
        max_distance=80.0,
    )
    for ext in (".bin", ".txt"):
        write_colmap_model(model, root / "sparse" / "0", ext)
    lines = "".join(f"{t.name}.jpg\n" for t in tasks if t.day == 1)
    write_text(root / "list_test.txt", lines)
    write_text(root / "queries_unmapped.txt", "".join(f"{name}.jpg\n" for name in unmapped))
    counts = {
        "mapping_images": mapped,
        "queries": queries,
        "unmapped_queries": len(unmapped),
        "points": len(model.points3D),
    }
    readme = _README.format(
        mapped=mapped, queries=queries, width=width, height=height, points=len(model.points3D)
    )
    return output.finish(counts, readme)


def _plan(
    renderer: Renderer,
    config: ToytownConfig,
    mapped: int,
    queries: int,
    size: tuple[int, int],
    shutter: float,
    length: float,
) -> tuple[list[_Task], list[str]]:
    """Cameras, times and sensors of all images, and the queries of the unmapped quarter."""
    rng = stream(config, "walk", config.sequence_seed)
    low, high = renderer.world.low, renderer.world.high
    border = low + 0.6 * (high - low)

    def is_unmapped(p: np.ndarray) -> bool:
        return bool((p > border).all())

    lost = max(1, queries // 5)
    known = walk_stretches(renderer.world, lambda p: not is_unmapped(p), length)
    unknown = walk_stretches(renderer.world, is_unmapped, length)
    walk = street_walk(renderer, known, mapped, *size, rng)
    found = street_walk(renderer, known, queries - lost, *size, rng)
    far = street_walk(renderer, unknown, lost, *size, rng)
    tasks = [
        _Task(f"map_{k:04d}", view, k * _INTERVAL, 0, k, SensorEffects())
        for k, view in enumerate(walk)
    ]
    for k, view in enumerate([*found, *far]):
        effects = SensorEffects(
            exposure=float(rng.uniform(0.7, 1.25)),
            white_balance=tuple(float(v) for v in rng.uniform(0.92, 1.08, 3)),
            vignetting=0.15,
            noise=1.5,
            shutter=shutter,
        )
        tasks.append(_Task(f"query_{k:04d}", view, k * _INTERVAL, 1, mapped + k, effects))
    return tasks, [t.name for t in tasks[-lost:]]
