"""4D occupancy: CarlaSC and Occ3D-Waymo trees of drives through several towns."""

import os
from pathlib import Path

import numpy as np

from mmcity.structures import geometry
from mmcity.toytown.motion.traffic import STEP
from mmcity.toytown.truth.drives import (
    CARLASC_GRID,
    OCC3D_WAYMO_GRID,
    Drive,
    GridLayout,
    record_frame,
)
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.writers.common import Output, SceneFrame, Workplace, render_all
from mmcity.utils.fileio import atomic_path, write_json, write_text

#: Towns and frames of each preset size.
PRESETS = {"tiny": (3, 24), "small": (6, 120), "medium": (18, 600)}

_README = """# Toytown, 4D semantic occupancy ({format})

{scenes} drives of {frames} frames at 10 Hz, each through a town of its own. Made by
`mmcity data toytown`; `toytown.json` holds the settings and checksums.
Grid {shape}, voxels of {voxel} m, lower corner {low} in the frame of the {frame}. A voxel is
occupied if a surface passes through it or its centre lies inside a solid thing.
"""


class _Drives(Workplace):
    def make(self, scene: int) -> Drive:
        return Drive(self.town(scene), (self.options["frames"] + 1) * STEP)


def _split(scene: int, scenes: int) -> int:
    """0 train, 1 validation, 2 test: a sixth each for the last two, at least one drive."""
    held = max(1, scenes // 6)
    return 2 if scene >= scenes - held else int(scene >= scenes - 2 * held)


def _carlasc_folder(root: Path, scene: int, scenes: int) -> Path:
    split = ("Train", "Val", "Test")[_split(scene, scenes)]
    return root / "Cartesian" / split / f"Town{scene + 1:02d}_Toy" / "cartesian"


def _waymo_folder(root: Path, scene: int, scenes: int) -> Path:
    split = ("training", "validation", "testing")[_split(scene, scenes)]
    return root / split / f"{scene:03d}"


def _write_array(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        array.tofile(temporary)


def _record_carlasc(context: _Drives, task: SceneFrame) -> None:
    folder = _carlasc_folder(context.root, task.scene, context.options["scenes"]) / "evaluation"
    label, counts_file = (folder / f"{task.frame:06d}.{end}" for end in ("label", "bin"))
    if label.is_file() and counts_file.is_file():
        return
    labels, counts, _ = record_frame(context.of(task.scene), CARLASC_GRID, task.frame)
    _write_array(label, labels.astype("<u4"))
    _write_array(counts_file, counts.astype("<f4"))


def _record_waymo(context: _Drives, task: SceneFrame) -> None:
    folder = _waymo_folder(context.root, task.scene, context.options["scenes"])
    path = folder / f"{task.frame:03d}_04.npz"
    if path.is_file():
        return
    labels, counts, _ = record_frame(context.of(task.scene), OCC3D_WAYMO_GRID, task.frame)
    seen = (counts > 0).astype(np.uint8)
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            voxel_label=labels,
            origin_voxel_state=seen,
            final_voxel_state=seen,
            infov=np.ones_like(seen),
        )


def _poses_text(drive: Drive, layout: GridLayout, frames: int) -> str:
    """Rows of 3x4 matrices, grid frame to that of the first frame."""
    poses = np.stack([drive.pose(i * STEP, layout.origin_height) for i in range(frames)])
    relative = geometry.se3_inverse(poses[0]) @ poses
    return "".join(" ".join(f"{x:.9g}" for x in pose[:3].ravel()) + "\n" for pose in relative)


def _describe_carlasc(context: _Drives, scene: int) -> None:
    options = context.options
    folder = _carlasc_folder(context.root, scene, options["scenes"])
    layout, frames = CARLASC_GRID, options["frames"]
    write_text(folder / "poses.txt", _poses_text(context.of(scene), layout, frames))
    write_text(folder / "times.txt", "".join(f"{i * STEP:.6f}\n" for i in range(frames)))
    high = [a + n * v for a, n, v in zip(layout.low, layout.shape, layout.voxel_size)]
    params = {
        "grid_size": list(layout.shape),
        "min_bound": list(layout.low),
        "max_bound": high,
        "num_channels": layout.shape[2],
    }
    write_json(folder / "evaluation" / "params.json", params, indent=None)


def _describe_waymo(context: _Drives, scene: int) -> None:
    options = context.options
    folder = _waymo_folder(context.root, scene, options["scenes"])
    text = _poses_text(context.of(scene), OCC3D_WAYMO_GRID, options["frames"])
    write_text(folder / "poses.txt", text)


def _write(
    out: str | os.PathLike,
    config: ToytownConfig,
    workers: int,
    num_scenes: int | None,
    num_frames: int | None,
    name: str,
    layout: GridLayout,
    record,
    describe,
) -> Path:
    scenes, frames = PRESETS[config.size]
    scenes, frames = num_scenes or scenes, num_frames or frames
    if scenes < 3:
        raise ValueError(f"num_scenes: expected at least 3 (train, validation, test), got {scenes}")
    output = Output.open(out, name, config, num_scenes=scenes, num_frames=frames)
    if output.is_finished:
        return output.root
    options = {"scenes": scenes, "frames": frames}
    arguments = (config, str(output.root), options)
    tasks = [SceneFrame(s, f) for s in range(scenes) for f in range(frames)]
    render_all(record, tasks, _Drives, arguments, workers, name)
    context = _Drives(*arguments)
    for scene in range(scenes):
        describe(context, scene)
    readme = _README.format(
        format=name,
        scenes=scenes,
        frames=frames,
        shape=layout.shape,
        voxel=layout.voxel_size,
        low=layout.low,
        frame="lidar" if layout.origin_height else "vehicle",
    )
    return output.finish({"scenes": scenes, "frames": scenes * frames}, readme)


def write_carlasc(
    out: str | os.PathLike,
    config: ToytownConfig,
    image_size: tuple[int, int] | None = None,
    workers: int = 1,
    num_scenes: int | None = None,
    num_frames: int | None = None,
) -> Path:
    """Write a CarlaSC tree: ``Cartesian/{Train,Val,Test}/TownNN_Toy/cartesian``.

    Args:
        out: Folder; a finished one with these settings is left as it is, an interrupted one
            is completed.
        config: The towns' settings; each scene has seeds of its own.
        image_size: Not used, there are no images.
        workers: Processes. Defaults to 1.
        num_scenes: Drives; None takes the preset. A sixth each is validation and test.
        num_frames: Frames of each at 10 Hz; None takes the preset.

    Returns:
        Path: The folder.

    Raises:
        FileExistsError: If the folder holds something else.
    """
    return _write(
        out, config, workers, num_scenes, num_frames, name="carlasc", layout=CARLASC_GRID,
        record=_record_carlasc, describe=_describe_carlasc,
    )  # fmt: skip


def write_occ3d_waymo(
    out: str | os.PathLike,
    config: ToytownConfig,
    image_size: tuple[int, int] | None = None,
    workers: int = 1,
    num_scenes: int | None = None,
    num_frames: int | None = None,
) -> Path:
    """Write an Occ3D-Waymo tree: ``{training,validation,testing}/<scene>/<frame>_04.npz``.

    ``poses.txt`` lies beside the frames. Arguments as in :func:`write_carlasc`.
    """
    return _write(
        out, config, workers, num_scenes, num_frames, name="occ3d_waymo", layout=OCC3D_WAYMO_GRID,
        record=_record_waymo, describe=_describe_waymo,
    )  # fmt: skip
