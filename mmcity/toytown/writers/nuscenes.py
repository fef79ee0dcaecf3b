"""nuScenes: tables, six cameras, lidar, boxes, Occ3D targets and maps of foundation models."""

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmcity.toytown.motion.traffic import STEP
from mmcity.toytown.sensors.cameras import View
from mmcity.toytown.sensors.lidar import ELEVATION, LidarScan, scan
from mmcity.toytown.sensors.renderer import Frame
from mmcity.toytown.sensors.rigs import LIDAR_TO_EGO, RigCamera, nuscenes_rig
from mmcity.toytown.truth.annotations import Annotator
from mmcity.toytown.truth.drives import Drive
from mmcity.toytown.truth.feature_maps import (
    TOYTOWN_VOCABULARY,
    feature_map,
    prompt_prototypes,
    segmentation_map,
)
from mmcity.toytown.truth.occupancy import Grid
from mmcity.toytown.truth.visibility import (
    camera_viewpoint,
    lidar_viewpoint,
    mark_hits,
    visible_voxels,
)
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.taxonomy import label_map
from mmcity.toytown.writers.common import (
    Output,
    SceneFrame,
    Workplace,
    render_all,
    save_image,
)
from mmcity.toytown.writers.nuscenes_tables import SceneRecord, fill_tables, token, write_tables
from mmcity.utils.fileio import atomic_path, read_json, write_json, write_npy

#: Scenes and key frames of each preset size.
PRESETS = {"tiny": (2, 6), "small": (8, 12), "medium": (40, 20)}
#: Width and height of the images.
IMAGE_SIZES = {"tiny": (320, 176), "small": (320, 176), "medium": (800, 448)}
#: Names that the devkit knows as the splits of v1.0-mini, so that its own tools work.
_MINI_TRAIN = (61, 553, 655, 757, 796, 1077, 1094, 1100)
_MINI_VAL = (103, 916)
_OCC3D = {"low": (-40.0, -40.0, -1.0), "voxel_size": (0.4, 0.4, 0.4), "shape": (200, 200, 16)}
_FREE = 17
#: Simulation steps of 0.1 s between key frames.
_KEY_STEPS = 5
_START = 1_600_000_000_000_000  # microseconds
_FRAMES = ".toytown-frames"
_LOCATION = "toytown"
#: Channels of the feature maps.
FEATURE_CHANNELS = 64

_README = """# Toytown, nuScenes {version}

{scenes} scenes (every one a town of its own) of {frames} key frames at 2 Hz; images {width} x
{height} of a six-camera rig with nuScenes' geometry; lidar key frames and sweeps at 10 Hz. Made
by `mmcity data toytown`; `toytown.json` holds settings and checksums.

| folder | content |
| --- | --- |
| `{version}/` | the 13 tables; `splits.json` names the scenes of train and val |
| `samples/`, `sweeps/` | images, lidar (x, y, z, intensity, ring; float32) |
| `gts/SCENE/TOKEN/labels.npz` | Occ3D: `semantics`, `mask_lidar`, `mask_camera` uint8 |
| `depth/` | float16 z-depth in metres at image size, {sky:g} for the sky |
| `features/` | float16 ({channels}, {height} / {patch}, {width} / {patch}), stand-ins |
| `features/prototypes.npz` | {prompts} prompts (columns), their words and Occ3D labels |
| `truth/` | depth and world classes of every image, for `tools/generate_targets.py` |
| `segmentation/` | uint8 at image size: 0 none, 1..16 Occ3D labels, 17 sky |

A voxel is occupied if a surface passes through it or its centre lies inside a solid thing. It
is in `mask_camera` (`mask_lidar`) if a ray from a camera (the lidar) enters it. Info files:
`mmcity data nuscenes FOLDER --version {version}`.
"""
#: Depth that stands for the sky, metres: beyond any limit a model may have.
SKY_DEPTH = 200.0


class _Context(Workplace):
    """The drive that was used last, and the rays that never change."""

    def __init__(self, config: ToytownConfig, root: str, options: dict) -> None:
        super().__init__(config, root, options)
        self.rig = nuscenes_rig(tuple(options["image_size"]))
        grid = Grid(np.eye(4), **_OCC3D)
        self.cameras = [camera_viewpoint(grid, camera) for camera in self.rig]
        self.lidar = [lidar_viewpoint(grid, LIDAR_TO_EGO[:3, 3], ELEVATION)]

    def make(self, scene: int) -> tuple[Drive, Annotator]:
        duration = (self.options["num_frames"] * _KEY_STEPS + 1) * STEP
        drive = Drive(self.town(scene), duration)
        return drive, Annotator(drive.renderer.world, drive.traffic)


def _is_validation(scene: int, scenes: int) -> bool:
    """The last quarter, at least one."""
    return scene >= scenes - max(1, scenes // 4)


def _scene_name(scene: int, scenes: int) -> str:
    if scenes > len(_MINI_TRAIN) + len(_MINI_VAL):
        return f"scene-{2001 + scene:04d}"
    if _is_validation(scene, scenes):
        return f"scene-{_MINI_VAL[scene - (scenes - max(1, scenes // 4))]:04d}"
    return f"scene-{_MINI_TRAIN[scene]:04d}"


def _log_name(scene: int) -> str:
    return f"toytown-{scene:03d}"


def _timestamp(scene: int, step: int) -> int:
    return _START + scene * 1_000_000_000 + step * round(STEP * 1e6)


def _save_lidar(path: Path, lidar: LidarScan) -> None:
    with atomic_path(path) as temporary:
        lidar.points.astype("<f4").tofile(temporary)


def _record(context: _Context, task: SceneFrame) -> dict:
    """Write the files of a key frame and its sweeps; returns what the tables need."""
    notes = context.root / _FRAMES / f"{task.scene:03d}_{task.frame:03d}.json"
    if notes.is_file():
        return read_json(notes)
    drive, annotator = context.of(task.scene)
    log, step = _log_name(task.scene), task.frame * _KEY_STEPS
    time, stamp = step * STEP, _timestamp(task.scene, step)
    pose = drive.pose(time)
    bodies = drive.traffic.bodies(time)
    drive.renderer.set_bodies(bodies)
    grid = Grid(pose, **_OCC3D)
    classes = drive.occupancy(grid.voxel_size).voxelize(grid, bodies)
    labels = label_map("occ3d_nuscenes")[classes]
    labels[classes == 0] = _FREE
    seen = [
        visible_voxels(drive.renderer, grid, classes > 0, sensors).astype(np.uint8)
        for sensors in (context.cameras, context.lidar)
    ]
    views = []
    for number, camera in enumerate(context.rig):
        view = View(camera.K, pose @ camera.cam_to_ego, camera.width, camera.height)
        views.append(view)
        stem = f"{log}__{camera.name}__{stamp}"
        frame = drive.renderer.render(view)
        seed = (context.config.seed, task.scene, task.frame, number)
        _save_camera(context, camera, stem, frame, seed)
        rays = view.camera_rays(view.pixel_grid()[frame.valid])
        points = rays * frame.depth[frame.valid][:, None]
        mark_hits(seen[0], grid, classes > 0, points, camera.cam_to_ego)
    lidar = scan(drive.renderer, pose @ LIDAR_TO_EGO)
    _save_lidar(
        context.root / "samples" / "LIDAR_TOP" / f"{log}__LIDAR_TOP__{stamp}.pcd.bin", lidar
    )
    mark_hits(seen[1], grid, classes > 0, lidar.points[:, :3], LIDAR_TO_EGO)
    name = _scene_name(task.scene, context.options["num_scenes"])
    key = token(log, "sample", task.frame)
    with atomic_path(context.root / "gts" / name / key / "labels.npz") as temporary:
        np.savez_compressed(temporary, semantics=labels, mask_lidar=seen[1], mask_camera=seen[0])
    boxes = annotator.boxes(time, pose[:3, 3])
    annotator.fill_visibility(boxes, drive.renderer, views, time)
    agents = {a.id for a in drive.traffic.agents}
    rows = []
    for box in boxes:
        returns = int((lidar.instance == box.instance).sum())
        if returns or box.share_seen > 0:
            row = asdict(box)
            row.update(
                center=[float(v) for v in box.center],
                size=[float(v) for v in box.size],
                num_lidar_pts=returns,
                is_agent=box.instance in agents,
            )
            rows.append(row)
    result = {
        "timestamp": stamp,
        "ego_pose": pose.tolist(),
        "boxes": rows,
        "sweeps": _record_sweeps(context, drive, task),
    }
    write_json(notes, result, indent=None)
    return result


def _save_camera(
    context: _Context, camera: RigCamera, stem: str, frame: Frame, seed: tuple
) -> None:
    root = context.root
    save_image(root / "samples" / camera.name / f"{stem}.jpg", frame.rgb, quality=95)
    depth = np.where(frame.valid, frame.depth, SKY_DEPTH).astype(np.float16)
    with atomic_path(root / "truth" / f"{stem}.npz") as temporary:
        np.savez_compressed(temporary, depth=depth, classes=frame.cls, seed=np.array(seed))
    write_npy(root / "depth" / f"{stem}.npy", depth)
    write_npy(root / "segmentation" / f"{stem}.npy", segmentation_map(frame.cls))
    patch = context.options["feature_patch"]
    features = feature_map(frame.cls, frame.rgb, patch, FEATURE_CHANNELS, seed=seed)
    write_npy(root / "features" / f"{stem}.npy", features)


def _record_sweeps(context: _Context, drive: Drive, task: SceneFrame) -> list[dict]:
    is_last = task.frame + 1 == context.options["num_frames"]
    if not context.options["sweeps"] or is_last:
        return []
    log = _log_name(task.scene)
    sweeps = []
    for extra in range(1, _KEY_STEPS):
        step = task.frame * _KEY_STEPS + extra
        time, stamp = step * STEP, _timestamp(task.scene, step)
        pose = drive.pose(time)
        drive.renderer.set_bodies(drive.traffic.bodies(time))
        path = context.root / "sweeps" / "LIDAR_TOP" / f"{log}__LIDAR_TOP__{stamp}.pcd.bin"
        _save_lidar(path, scan(drive.renderer, pose @ LIDAR_TO_EGO))
        sweeps.append({"timestamp": stamp, "ego_pose": pose.tolist()})
    return sweeps


def _save_map(root: Path, version: str, scenes: list[SceneRecord]) -> dict:
    """A stub: the devkit insists on a mask for every log; toy towns have no map layer."""
    filename = "maps/toytown.png"
    save_image(root / filename, np.full((64, 64), 255, dtype=np.uint8))
    return {
        "token": token("map", version),
        "category": "semantic_prior",
        "filename": filename,
        "log_tokens": [token(scene.log, "log") for scene in scenes],
    }


def _save_map_settings(root: Path, image_size: tuple[int, int], patch: int) -> None:
    """Writes the settings that readers of the stored maps need, and the prompts."""
    width, height = image_size
    for folder, dtype, size in (
        ("depth", "float16", (height, width)),
        ("segmentation", "uint8", (height, width)),
        ("features", "float16", (height // patch, width // patch)),
    ):
        meta = {
            "kind": folder,
            "model": "toytown",
            "dtype": dtype,
            "height": size[0],
            "width": size[1],
            "scale": 1.0,
        }
        write_json(root / folder / "meta.json", meta, indent=None)
    labels = [label for _, label, _ in TOYTOWN_VOCABULARY]
    groups = sorted(set(labels))
    with atomic_path(root / "features" / "prototypes.npz") as temporary:
        np.savez(
            temporary,
            embeds=prompt_prototypes(FEATURE_CHANNELS),
            prompts=[word for word, _, _ in TOYTOWN_VOCABULARY],
            groups=[labels.count(label) for label in groups],
            labels=groups,
        )


def write_nuscenes(
    out: str | os.PathLike,
    config: ToytownConfig,
    image_size: tuple[int, int] | None = None,
    workers: int = 1,
    num_scenes: int | None = None,
    num_frames: int | None = None,
    sweeps: bool = True,
    feature_patch: int = 8,
) -> Path:
    """Write a nuScenes tree that nuscenes-devkit opens, with Occ3D targets and maps.

    Up to ten scenes are ``v1.0-mini`` and carry its scene names, so that tools that know the
    official splits work; more are ``v1.0-trainval`` with names of their own, split by
    ``splits.json``. The last quarter of the scenes is validation.

    Args:
        out: Folder; a finished one with these settings is left as it is, an interrupted one
            is completed.
        config: The towns' settings; each scene has seeds of its own.
        image_size: Width and height in pixels, multiples of ``feature_patch``; None takes the
            preset.
            nuScenes has (1600, 900), here (1600, 896).
        workers: Processes. Defaults to 1.
        num_scenes: None takes the preset.
        num_frames: Key frames of a scene; None takes the preset.
        sweeps: Also write the lidar between key frames, at 10 Hz. Defaults to True.
        feature_patch: Pixels along the edge of a cell of the feature maps. Defaults to 8.

    Returns:
        Path: The folder.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If the patch does not divide the image, or there are fewer than two scenes.
    """
    scenes, frames = PRESETS[config.size]
    scenes, frames = num_scenes or scenes, num_frames or frames
    size = tuple(image_size or IMAGE_SIZES[config.size])
    if any(side % feature_patch for side in size):
        raise ValueError(f"image_size: expected multiples of {feature_patch}, got {size}")
    if scenes < 2:
        raise ValueError(f"num_scenes: expected at least 2 (train and validation), got {scenes}")
    options = {
        "num_scenes": scenes,
        "num_frames": frames,
        "image_size": size,
        "sweeps": sweeps,
        "feature_patch": feature_patch,
    }
    output = Output.open(out, "nuscenes", config, **options)
    if output.is_finished:
        return output.root
    arguments = (config, str(output.root), options)
    tasks = [SceneFrame(s, f) for s in range(scenes) for f in range(frames)]
    recorded = render_all(_record, tasks, _Context, arguments, workers, "nuscenes")
    version = "v1.0-mini" if scenes <= len(_MINI_TRAIN) + len(_MINI_VAL) else "v1.0-trainval"
    records = [
        SceneRecord(
            _scene_name(scene, scenes),
            _log_name(scene),
            f"toy town of seed {1000 * config.seed + scene}",
            recorded[scene * frames : (scene + 1) * frames],
        )
        for scene in range(scenes)
    ]
    tables = fill_tables(records, nuscenes_rig(size), _LOCATION)
    tables["map"] = [_save_map(output.root, version, records)]
    write_tables(output.root / version, tables)
    splits = {"train": [], "val": []}
    for scene, record in enumerate(records):
        splits["val" if _is_validation(scene, scenes) else "train"].append(record.name)
    write_json(output.root / version / "splits.json", splits)
    _save_map_settings(output.root, size, feature_patch)
    for path in (output.root / _FRAMES).glob("*.json"):
        path.unlink()
    (output.root / _FRAMES).rmdir()
    readme = _README.format(
        version=version,
        scenes=scenes,
        frames=frames,
        width=size[0],
        height=size[1],
        sky=SKY_DEPTH,
        channels=FEATURE_CHANNELS,
        patch=feature_patch,
        prompts=len(TOYTOWN_VOCABULARY),
    )
    counts = {
        "scenes": scenes,
        "key_frames": scenes * frames,
        "boxes": len(tables["sample_annotation"]),
    }
    return output.finish(counts, readme)
