"""The 3DGS folders of published appearance maps.

A folder holds ``cfg_args``, ``cameras.json`` and ``ckpts_point_cloud/iteration_N`` with
``point_cloud.ply``, ``map_generator.pth``, ``color_net.pth`` and ``other_attributes_dict.pth``.
"""

import ast
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.engine.checkpointing import load_from_local
from mmcity.models.layers import frame_in_state, frame_to_state
from mmcity.structures import read_ply_vertices, write_ply_vertices
from mmcity.structures.io.ply import read_ply_frame
from mmcity.utils.fileio import read_json, read_text
from mmcity.utils.torch_files import write_torch

#: Columns of the PLY file, in its order, by the entries of the state that they make.
_COLUMNS = {
    "means": ("x", "y", "z"),
    "f_intr": tuple(f"f_intr_{k}" for k in range(48)),  # channel by channel: (N, 3, 16)
    "opacity_logits": ("opacity",),
    "log_scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}
_PARTS = ("map_generator", "color_net")


def read_map_folder(root: Path, iteration: int | None = None) -> tuple[dict[str, Tensor], dict]:
    """State dict and model config of a folder.

    Args:
        root: The folder.
        iteration: Defaults to the last one.

    Raises:
        FileNotFoundError: If a file or the iteration is missing.
        ValueError: If files are malformed or contradict each other.
    """
    folder = _find_iteration(root, iteration)
    options = read_cfg_args(root / "cfg_args")
    columns = read_ply_vertices(
        folder / "point_cloud.ply", [name for names in _COLUMNS.values() for name in names]
    )
    splats = {
        key: torch.from_numpy(np.stack([columns[n].astype(np.float32) for n in names], -1))
        for key, names in _COLUMNS.items()
    }
    splats["opacity_logits"] = splats["opacity_logits"][:, 0]
    splats["f_intr"] = splats["f_intr"].reshape(-1, 3, 16).transpose(1, 2).contiguous()
    box = _load(folder / "other_attributes_dict.pth")["box_coord"].detach().float()
    if len(box) != len(splats["means"]):
        raise ValueError(
            f"{folder}: expected box coordinates of the {len(splats['means'])} Gaussians in the "
            f"PLY, got {len(box)}"
        )
    config = scene_config(options, box.shape[1])
    splats["box_coords"] = box if config["use_color_net"] else box[:, :0]
    state = {
        **{f"splats.{key}": value for key, value in splats.items()},
        "iteration": torch.tensor(int(folder.name.split("_")[1])),
        **_read_cameras(root / "cameras.json"),
        **frame_to_state(read_ply_frame(folder / "point_cloud.ply")),
    }
    for part in _PARTS if config["use_color_net"] else ():
        weights = _load(folder / f"{part}.pth")
        state.update({f"appearance.{part}.{key}": value for key, value in weights.items()})
    return state, config


def write_map_folder(state: dict[str, Tensor], root: Path, iteration: int | None = None) -> Path:
    """Write the files of one iteration; ``cfg_args`` and ``cameras.json`` are no part of it.

    Args:
        state: Of a checkpoint of ours.
        root: Folder to write below.
        iteration: Defaults to the checkpoint's.

    Returns:
        Folder of the iteration.
    """
    number = int(state["iteration"]) if iteration is None else iteration
    folder = root / "ckpts_point_cloud" / f"iteration_{number}"
    count = len(state["splats.means"])
    columns: dict[str, np.ndarray] = {}
    for key, names in _COLUMNS.items():
        values = state[f"splats.{key}"].float().numpy()
        values = values.transpose(0, 2, 1) if key == "f_intr" else values
        columns |= dict(zip(names, values.reshape(count, -1).T))
        if key == "means":
            columns |= {name: np.zeros(count, np.float32) for name in ("nx", "ny", "nz")}
    write_ply_vertices(folder / "point_cloud.ply", columns, frame_in_state(state))
    box = torch.nn.Parameter(state["splats.box_coords"])
    files = {"other_attributes_dict": {"box_coord": box, "non": torch.zeros(1)}}
    for part in _PARTS:
        prefix = f"appearance.{part}."
        files[part] = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    for name, content in files.items():
        write_torch(folder / f"{name}.pth", content)
    return folder


def read_cfg_args(path: Path) -> dict:
    """Values of a text ``Namespace(a=1, b='c', ...)``, which is parsed and never run."""
    text = read_text(path)
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "Namespace":
            raise ValueError("no Namespace(...)")
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a text Namespace(name=value, ...), got {error}"
        ) from error


def scene_config(options: dict, num_maps: int) -> dict:
    """Config of the model that the arguments of the training describe."""
    use_net = bool(options.get("use_color_net", True)) and num_maps > 0
    white = bool(options.get("white_background", False))
    config = dict(
        type="AppearanceGaussians",
        use_color_net=use_net,
        sh_degree=int(options.get("sh_degree", 3)),
        coord_scale=float(options.get("coord_scale", 1.0)),
        renderer=dict(
            type="SplatRenderer",
            antialiased=bool(options.get("antialiasing", True)),
            background=dict(type="ConstantBackground", color=(float(white),) * 3),
        ),
    )
    if use_net:
        config["appearance"] = dict(
            type="AppearanceModel",
            use_projection=not options.get("use_okmap", False),
            map_generator=dict(
                type="AppearanceMapGenerator",
                num_maps=num_maps,
                batch_norm_eval=False,
                batch_statistics=True,  # as the published code renders
            ),
            color_net=dict(type="AppearanceColorNet", appearance_dim=16 * num_maps),
        )
    return config


def _find_iteration(root: Path, iteration: int | None) -> Path:
    found = {
        int(match.group(1)): path
        for path in (root / "ckpts_point_cloud").glob("iteration_*")
        if (match := re.fullmatch(r"iteration_(\d+)", path.name))
    }
    if not found:
        raise FileNotFoundError(f"{root}: expected ckpts_point_cloud/iteration_N, found none")
    number = max(found) if iteration is None else iteration
    if number not in found:
        raise FileNotFoundError(f"{root}: expected an iteration of {sorted(found)}, got {number}")
    return found[number]


def _read_cameras(path: Path) -> dict[str, Tensor]:
    """Buffers of the training views out of ``cameras.json``; test cameras come first there."""
    table = read_json(path)
    viewmats, Ks, sizes = [], [], []
    for row in table:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = row["rotation"], row["position"]
        viewmats.append(np.linalg.inv(pose))
        width, height = row["width"], row["height"]
        Ks.append([[row["fx"], 0, width / 2], [0, row["fy"], height / 2], [0, 0, 1]])
        sizes.append([width, height])
    centers = np.array([row["position"] for row in table])
    extent = 1.1 * np.linalg.norm(centers - centers.mean(0), axis=1).max()
    return {
        "views.viewmats": torch.tensor(np.array(viewmats), dtype=torch.float32),
        "views.Ks": torch.tensor(Ks, dtype=torch.float32),
        "views.sizes": torch.tensor(sizes),
        "views.extent": torch.tensor(max(float(extent), 1e-6)),
    }


def _load(path: Path) -> dict[str, Tensor]:
    state = load_from_local(path, map_location="cpu")
    return {key.removeprefix("_orig_mod."): value for key, value in state.items()}
