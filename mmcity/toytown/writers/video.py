"""RGB-D-pose videos: driving, walking and orbiting cameras among moving objects."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmcity.structures import Trajectory
from mmcity.toytown.motion.glides import glide_camera
from mmcity.toytown.motion.traffic import STEP, Traffic, simulate_traffic
from mmcity.toytown.motion.walks import drive_camera, orbit_camera, walk_camera
from mmcity.toytown.sensors.renderer import Renderer
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.town import build_world, stream
from mmcity.toytown.writers.common import Output, Workplace, render_all, save_image
from mmcity.utils.fileio import write_json, write_npy, write_text

#: Sequences, frames in each, and image size of each preset size.
PRESETS = {
    "tiny": (2, 12, (320, 240)),
    "small": (20, 40, (320, 240)),
    "medium": (200, 100, (640, 480)),
}
#: Kinds in which the camera rides in the ego car.
DRIVEN = ("drive", "surround")
#: Kinds of paths taken in turn where nothing else is asked for.
PATHS = ("drive", "walk", "orbit")
#: All kinds and their horizontal fields of view.
_FOV = {"drive": 78.0, "walk": 68.0, "orbit": 62.0, "glide": 70.0, "surround": 78.0}
#: Degrees to the left at which the cameras of a surround rig look, taken in turn.
_MOUNTS = (0.0, 55.0, -110.0, 180.0, -55.0, 110.0)

_README = """# Toytown, RGB-D videos with poses

{sequences} sequences of {frames} frames at 10 Hz, {width}x{height}. Made by
`mmcity data toytown`; `toytown.json` holds the settings and checksums.

| path | content |
| --- | --- |
| `train.txt`, `val.txt` | names of the sequences of each split |
| `SEQ/rgb/NNNNNN.png` | pictures |
| `SEQ/depth/NNNNNN.npy` | exact z-depth in metres, float32, 0 where the sky is seen |
| `SEQ/depth_png/NNNNNN.png` | the same in 1/256 m, uint16, 0 = sky or farther than 255 m |
| `SEQ/instance/NNNNNN.png` | instance id, uint16, 0 = none |
| `SEQ/label/NNNNNN.png` | class (`mmcity.toytown.WorldClass`) |
| `SEQ/flow/NNNNNN.npy` | flow to the next frame in pixels, float16, NaN = undefined (on request) |
| `SEQ/poses.txt` | camera-to-world matrices, 16 numbers per line |
| `SEQ/trajectory.txt` | the same as TUM lines (time, translation, quaternion xyzw) |
| `SEQ/intrinsics.txt` | 3x3 K in pixels |
| `SEQ/objects.json` | per frame: id, class, box, velocity of each moving object |

World: metres, x east, y north, z up. Cameras: OpenCV axes, pixel centres at +0.5.
"""


class _Context(Workplace):
    """World, renderer and the sequence that was used last."""

    def __init__(self, config: ToytownConfig, root: str, options: dict) -> None:
        super().__init__(config, root, options)
        self.renderer = Renderer(build_world(config))

    def make(self, index: int) -> tuple[Traffic, object]:
        """Traffic and camera path of a sequence."""
        config = replace(self.config, sequence_seed=1000 * self.config.sequence_seed + index)
        kind = _kind(self.options, index)
        duration = self.options["frames"] * STEP
        world = self.renderer.world
        traffic = simulate_traffic(world, config, duration, has_ego=kind in DRIVEN)
        rng = stream(config, "path", config.sequence_seed)
        size = tuple(self.options["image_size"])
        if kind in DRIVEN:
            turn = index // len(self.options["paths"])
            mount = _MOUNTS[turn % len(_MOUNTS)] if kind == "surround" else 0.0
            path = drive_camera(traffic.ego, _FOV[kind], size, mount)
        elif kind == "walk":
            path = walk_camera(world, rng, _FOV[kind], size)
        elif kind == "glide":
            self.renderer.set_bodies([])
            path = glide_camera(self.renderer, rng, _FOV[kind], size, duration)
        else:
            self.renderer.set_bodies([])
            path = orbit_camera(self.renderer, rng, _FOV[kind], size, duration)
        if kind not in DRIVEN:
            _clear_the_way(traffic, path, duration)
        return traffic, path


def _clear_the_way(traffic: Traffic, path, duration: float, radius: float = 1.5) -> None:
    """Take out whoever would walk or drive through the camera."""
    times = np.arange(0, duration + STEP, STEP)
    eyes = np.array([path(float(t)).center[:2] for t in times])

    def gap(agent) -> float:
        way = np.array([agent.pose(float(t))[:2, 3] for t in times])
        return float(np.hypot(*(way - eyes).T).min()) - agent.size[0] / 2

    traffic.agents = [a for a in traffic.agents if gap(a) > radius - 0.4]


def _kind(options: dict, index: int) -> str:
    """Kind of path of a sequence."""
    return options["paths"][index % len(options["paths"])]


def _name(options: dict, index: int) -> str:
    """Folder of a sequence."""
    return f"{index:03d}_{_kind(options, index)}"


def _render_sequence(context: _Context, index: int) -> None:
    """All files of one sequence; those that are there are kept."""
    _describe(context, index)
    folder = context.root / _name(context.options, index)
    for frame in range(context.options["frames"]):
        _render_frame(context, index, folder, frame)


def _render_frame(context: _Context, index: int, folder: Path, number: int) -> None:
    stem = f"{number:06d}"
    paths = {
        "rgb": folder / "rgb" / f"{stem}.png",
        "depth": folder / "depth" / f"{stem}.npy",
        "depth_png": folder / "depth_png" / f"{stem}.png",
        "instance": folder / "instance" / f"{stem}.png",
        "label": folder / "label" / f"{stem}.png",
    }
    is_last = number == context.options["frames"] - 1
    if context.options["with_flow"] and not is_last:
        paths["flow"] = folder / "flow" / f"{stem}.npy"
    if all(p.is_file() for p in paths.values()):
        return
    traffic, path = context.of(index)
    now, after = number * STEP, (number + 1) * STEP
    context.renderer.set_bodies(traffic.bodies(now, after))
    frame = context.renderer.render(path(now), path(after) if "flow" in paths else None)
    save_image(paths["rgb"], frame.rgb)
    write_npy(paths["depth"], frame.depth)
    scaled = np.where(frame.depth < 255, frame.depth * 256 + 0.5, 0)
    save_image(paths["depth_png"], scaled.astype(np.uint16))
    save_image(paths["instance"], frame.instance.astype(np.uint16))
    save_image(paths["label"], frame.cls)
    if "flow" in paths:
        write_npy(paths["flow"], frame.flow.astype(np.float16))


def _describe(context: _Context, index: int) -> None:
    """Poses, intrinsics and boxes of one sequence."""
    folder = context.root / _name(context.options, index)
    traffic, path = context.of(index)
    times = np.arange(context.options["frames"]) * STEP
    views = [path(float(t)) for t in times]
    poses = np.stack([v.cam_to_world for v in views])
    rows = "\n".join(" ".join(f"{x:.17g}" for x in pose.ravel()) for pose in poses)
    write_text(folder / "poses.txt", rows + "\n")
    K = "\n".join(" ".join(f"{x:.17g}" for x in row) for row in views[0].K)
    write_text(folder / "intrinsics.txt", K + "\n")
    Trajectory(poses, times).write_tum(folder / "trajectory.txt")
    objects = [
        [
            {
                "id": s.id,
                "class": s.cls.name.lower(),
                "center": [round(float(x), 4) for x in s.center],
                "size": [round(float(x), 4) for x in s.size],
                "yaw": round(s.yaw, 5),
                "velocity": [round(float(x), 4) for x in s.velocity],
            }
            for s in traffic.states(float(t))
        ]
        for t in times
    ]
    write_json(folder / "objects.json", objects, indent=None)


def write_video(
    out: str | os.PathLike,
    config: ToytownConfig,
    image_size: tuple[int, int] | None = None,
    workers: int = 1,
    num_sequences: int | None = None,
    num_frames: int | None = None,
    with_flow: bool = False,
    paths: Sequence[str] = PATHS,
) -> Path:
    """Write RGB-D videos with poses of a toy town.

    Args:
        out: Folder; a finished one with these settings is left as it is, an interrupted one
            is completed.
        config: The town.
        image_size: Width and height; None takes the preset of ``config.size``.
        workers: Processes that render. Defaults to 1.
        num_sequences: None takes the preset.
        num_frames: Frames of each sequence at 10 Hz; None takes the preset.
        with_flow: Also write optical flow. Defaults to False.
        paths: Kinds of paths of the sequences, in turn: ``'drive'``, ``'walk'``,
            ``'orbit'``, ``'glide'`` (any direction, whatever way the camera looks) and
            ``'surround'`` (one of six cameras that look out of a car all round, another in
            every sequence). Defaults to the first three.

    Returns:
        Path: The folder.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If a kind of path is unknown.
    """
    unknown = sorted(set(paths) - set(_FOV))
    if unknown or not paths:
        raise ValueError(f"paths: expected some of {sorted(_FOV)}, got {list(paths)}")
    sequences, frames, size = PRESETS[config.size]
    sequences, frames = num_sequences or sequences, num_frames or frames
    width, height = image_size or size
    output = Output.open(
        out, "video", config, image_size=[width, height], num_sequences=sequences,
        num_frames=frames, with_flow=with_flow, paths=list(paths),
    )  # fmt: skip
    if output.is_finished:
        return output.root
    options = {"frames": frames, "image_size": (width, height), "with_flow": with_flow}
    options["paths"] = list(paths)
    # A whole sequence is one task: simulating its traffic costs more than a picture.
    arguments = (config, str(output.root), options)
    render_all(_render_sequence, range(sequences), _Context, arguments, workers, "video")
    held_out = max(1, sequences // 5)
    names = [_name(options, k) for k in range(sequences)]
    write_text(output.root / "train.txt", "".join(f"{n}\n" for n in names[:-held_out]))
    write_text(output.root / "val.txt", "".join(f"{n}\n" for n in names[-held_out:]))
    counts = {"sequences": sequences, "frames": sequences * frames}
    readme = _README.format(sequences=sequences, frames=frames, width=width, height=height)
    return output.finish(counts, readme)
