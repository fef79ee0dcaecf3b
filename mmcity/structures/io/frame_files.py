"""Frames of scenes in files of any format."""

import os
from pathlib import Path

import torch

from mmcity.structures.scene_frame import SceneFrame, read_frame, sidecar, write_frame
from mmcity.structures.sim3 import Sim3
from mmcity.utils.fileio import damage_told, read_json

from .gaussians_gltf import y_up
from .glb import get_frame, read_glb_container, set_frame, write_glb_container
from .ply import read_ply_frame, stamp_ply


def read_frame_of(path: str | os.PathLike) -> SceneFrame | None:
    """Frame of the content of a file; None where neither it nor its ``.frame.json`` tells one.

    Args:
        path: ``.ply``, ``.glb`` (in glTF's axes), ``tileset.json``, or any other file.

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
            frame, up = get_frame(document, path), document.get("extras", {}).get("mmcity_up", "y")
            # Noted is the frame of the scene, which the file holds with y up.
            return frame and frame.moved(Sim3.from_matrix(torch.from_numpy(y_up(up))))
    if path.name == "tileset.json":
        return get_frame(read_json(path), path)
    return read_frame(sidecar(path))


def stamp_frame(
    written: str | os.PathLike, target: str | os.PathLike, frame: SceneFrame | None, up: str = "y"
) -> None:
    """Note in a file that another library wrote, or beside it, where its content lies.

    Args:
        written: The file before it is moved into place, of the format of ``target``.
        target: Its place; the name of the file beside it follows.
        frame: None for one that is not known.
        up: Axis of the scene that points up, which glTF's y is. Defaults to ``y``.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in (".ply", ".glb"):
        write_frame(sidecar(target), frame)
    elif frame is None or frame.is_identity:
        return
    elif suffix == ".ply":
        stamp_ply(written, frame)
    else:
        document, binary = read_glb_container(written)
        set_frame(document, frame)
        document.setdefault("extras", {})["mmcity_up"] = up
        write_glb_container(written, document, binary)
