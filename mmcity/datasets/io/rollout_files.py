"""Files of exported HexPlane rollouts and the index that goes with them."""

from pathlib import Path

import numpy as np

from mmcity.utils.fileio import atomic_path, read_arrays, read_json, write_json

INDEX_NAME = "index.json"


def rollout_path(root: str | Path, scene: str, first_frame: str) -> Path:
    """``<root>/<scene>/<stem of the first frame's file>.npz``."""
    name = Path(first_frame.replace("#", "_")).stem
    if "#" in first_frame:  # frame of a file that holds a whole scene
        name = f"{int(first_frame.rsplit('#', 1)[1]):06d}"
    elif name == "labels":  # Occ3D-nuScenes: the folder is the frame's token
        name = Path(first_frame).parent.name
    return Path(root) / scene / f"{name}.npz"


def write_rollout(
    path: str | Path,
    rollout: np.ndarray,
    layout: np.ndarray | None = None,
    planar_poses: np.ndarray | None = None,
) -> None:
    """Write one rollout atomically.

    Args:
        path: Target ``.npz``.
        rollout: ``(1, C, S, S)`` float16 or float32.
        layout: ``(T, X/4, Y/4)`` uint8, kept for layout conditions.
        planar_poses: ``(T, 3)`` x, y, yaw, kept for trajectory and command conditions.
    """
    arrays = {"rollout": rollout}
    if layout is not None:
        arrays["layout"] = layout
    if planar_poses is not None:
        arrays["planar_poses"] = planar_poses
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_rollout(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of one rollout file; ``rollout`` is always there.

    Raises:
        ValueError: If the file is not a rollout.
    """
    arrays = read_arrays(path)
    if "rollout" not in arrays or arrays["rollout"].ndim != 4:
        raise ValueError(f"{path}: expected an array 'rollout' (1, C, S, S), got {sorted(arrays)}")
    return arrays


def write_rollout_index(root: str | Path, index: dict) -> None:
    """Write ``index.json``: sizes, windows and statistics of an export."""
    write_json(Path(root) / INDEX_NAME, index)


def read_rollout_index(root: str | Path) -> dict:
    """Read ``index.json`` of an export.

    Raises:
        FileNotFoundError: If there is none, with the command that makes it.
        ValueError: If it lacks a key.
    """
    path = Path(root) / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected rollouts: export them with tools/export_rollouts.py first"
        )
    index = read_json(path)
    missing = [k for k in ("txyz", "channels", "sequence_length", "windows") if k not in index]
    if missing:
        raise ValueError(f"{path}: expected keys {missing}, got none")
    return index
