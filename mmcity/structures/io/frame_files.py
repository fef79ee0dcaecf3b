"""Frames of scenes in files of any format."""

import os
from pathlib import Path

import numpy as np
import torch

from mmcity.structures.scene_frame import SceneFrame, read_frame, sidecar, write_frame
from mmcity.structures.sim3 import Sim3
from mmcity.utils.fileio import damage_told, read_json

from .gaussians_gltf import UP_KEY, y_up
from .gaussians_sog import META, read_sog_frame
from .gaussians_spz import read_spz_frame
from .gaussians_usd import read_usd_frame
from .glb import get_frame, read_glb_container, set_frame, write_glb_container
from .ply import read_ply_frame, stamp_ply
from .streamed_sog import INDEX


def read_frame_of(path: str | os.PathLike) -> SceneFrame | None:
    """Frame of the content of a file; None where neither it nor its ``.frame.json`` tells one.

    Args:
        path: ``.ply``, ``.sog``, USD, ``.glb`` (in glTF's axes), ``tileset.json``, or any other.

    Raises:
        ValueError: If the frame, or the file around it, is broken.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".ply":
        return read_ply_frame(path)
    if suffix == ".glb":
        with damage_told(path, "a glTF file"):
            document = read_glb_container(path)[0]
            frame, up = get_frame(document, path), document.get("extras", {}).get(UP_KEY, "y")
            # Noted is the frame of the scene, which the file holds with y up.
            return frame and frame.moved(Sim3.from_matrix(torch.from_numpy(y_up(up))))
    if path.name in ("tileset.json", INDEX):
        return get_frame(read_json(path), path)
    if suffix == ".sog" or path.name == META:
        return read_sog_frame(path)
    if suffix == ".spz":
        return read_spz_frame(path)[0]
    if suffix.startswith(".usd"):
        return read_usd_frame(path)
    return read_frame(sidecar(path))


def axes_of_scene(path: str | os.PathLike) -> np.ndarray:
    """``(4, 4)`` turn from the axes of a file to those of the scene that it was made from.

    Args:
        path: A mesh or cloud of any format; only ``.glb`` files note that they were turned.
    """
    if Path(path).suffix.lower() != ".glb":
        return np.eye(4)
    with damage_told(path, "a glTF file"):
        return np.linalg.inv(y_up(read_glb_container(path)[0].get("extras", {}).get(UP_KEY, "y")))


def stamp_frame(
    written: str | os.PathLike, target: str | os.PathLike, frame: SceneFrame | None, up: str = "y"
) -> None:
    """Note in a file that another library wrote, or beside it, where its content lies.

    Args:
        written: The file before it is moved into place, of the format of ``target``.
        target: Its place; the name of the file beside it follows.
        frame: None for one that is not known.
        up: Axis of the scene that points up, which glTF's y is; noted in any case. Defaults to
            ``y``.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in (".ply", ".glb"):
        write_frame(sidecar(target), frame)
        return
    known = None if frame is None or frame.is_identity else frame
    if suffix == ".ply" and known is not None:
        stamp_ply(written, known)
    elif suffix == ".glb" and (known is not None or up != "y"):
        document, binary = read_glb_container(written)
        set_frame(document, known)
        document.setdefault("extras", {})[UP_KEY] = up
        write_glb_container(written, document, binary)
