"""Convert published appearance maps: ``rap_map_to_mmcity.py SRC DST.pth [--reverse]``.

``SRC`` is a 3DGS folder: ``cfg_args``, ``cameras.json`` and
``ckpts_point_cloud/iteration_N/{point_cloud.ply, map_generator.pth, color_net.pth,
other_attributes_dict.pth}``. Beside ``DST.pth``, ``DST.py`` gets the config of the scene, so that
``tools/localize.py --map DST.pth --map-config DST.py`` takes it. ``--reverse`` writes the folder
of an iteration back.
"""

import argparse
import ast
import json
import re
from pathlib import Path

_PLY = (
    "x",
    "y",
    "z",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
)
_INTRINSIC = tuple(f"f_intr_{k}" for k in range(48))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("src", help="3DGS folder (or our checkpoint, with --reverse)")
    parser.add_argument("dst", help="checkpoint to write (or a folder, with --reverse)")
    parser.add_argument("--iteration", type=int, help="default: the last one")
    parser.add_argument("--reverse", action="store_true")
    return parser.parse_args(argv)


def read_cfg_args(path: Path) -> dict:
    """Values of a text ``Namespace(a=1, b='c', ...)``, which is parsed and never run."""
    text = path.read_text()
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "Namespace":
            raise ValueError("no Namespace(...)")
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a text Namespace(name=value, ...), got {error}"
        ) from error


def find_iteration(root: Path, iteration: int | None) -> Path:
    """Folder of an iteration, the last one by default."""
    found = {
        int(match.group(1)): path
        for path in (root / "ckpts_point_cloud").glob("iteration_*")
        if (match := re.fullmatch(r"iteration_(\d+)", path.name))
    }
    if not found:
        raise FileNotFoundError(f"{root}: expected ckpts_point_cloud/iteration_N, found none")
    number = max(found) if iteration is None else iteration
    if number not in found:
        raise FileNotFoundError(f"{root}: no iteration {number}, there are {sorted(found)}")
    return found[number]


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


def read_cameras(path: Path) -> dict:
    """Buffers of the training views out of ``cameras.json``; test cameras come first there."""
    import numpy as np
    import torch

    table = json.loads(path.read_text())
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


def _load(path: Path) -> dict:
    import torch

    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of the published 3DGS folder")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {key.removeprefix("_orig_mod."): value for key, value in state.items()}


def convert(root: Path, iteration: int | None) -> tuple[dict, dict]:
    """State dict and model config of a folder."""
    import numpy as np
    import torch

    from mmcity.structures.io.ply import read_ply_vertices

    folder = find_iteration(root, iteration)
    options = read_cfg_args(root / "cfg_args")
    columns = read_ply_vertices(folder / "point_cloud.ply", [*_PLY, *_INTRINSIC])

    def stack(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([columns[n].astype(np.float32) for n in names], -1))

    # Channel by channel in the file: (N, 3, 16) to (N, 16, 3).
    f_intr = stack(*_INTRINSIC).reshape(-1, 3, 16).transpose(1, 2).contiguous()
    box = _load(folder / "other_attributes_dict.pth")["box_coord"].detach().float()
    if box.shape[0] != len(f_intr):
        raise ValueError(
            f"{folder}: {len(f_intr)} Gaussians in the PLY, box coordinates of {box.shape[0]}"
        )
    config = scene_config(options, box.shape[1])
    state = {
        "splats.means": stack("x", "y", "z"),
        "splats.log_scales": stack("scale_0", "scale_1", "scale_2"),
        "splats.quats": stack("rot_0", "rot_1", "rot_2", "rot_3"),
        "splats.opacity_logits": stack("opacity")[:, 0],
        "splats.f_intr": f_intr,
        "splats.box_coords": box if config["use_color_net"] else box[:, :0],
        "iteration": torch.tensor(int(folder.name.split("_")[1])),
        **read_cameras(root / "cameras.json"),
    }
    if config["use_color_net"]:
        for part in ("map_generator", "color_net"):
            weights = _load(folder / f"{part}.pth")
            state.update({f"appearance.{part}.{key}": value for key, value in weights.items()})
    return state, config


def restore(state: dict, folder: Path) -> None:
    """Write the files of one iteration."""
    import torch

    from mmcity.structures.io.ply import write_ply_vertices

    folder.mkdir(parents=True, exist_ok=True)
    means = state["splats.means"]
    columns = {name: means[:, k] for k, name in enumerate("xyz")}
    columns |= {name: torch.zeros(len(means)) for name in ("nx", "ny", "nz")}
    flat = state["splats.f_intr"].transpose(1, 2).flatten(1)
    columns |= {name: flat[:, k] for k, name in enumerate(_INTRINSIC)}
    columns["opacity"] = state["splats.opacity_logits"]
    columns |= {f"scale_{k}": state["splats.log_scales"][:, k] for k in range(3)}
    columns |= {f"rot_{k}": state["splats.quats"][:, k] for k in range(4)}
    write_ply_vertices(
        folder / "point_cloud.ply", {name: value.float().numpy() for name, value in columns.items()}
    )
    for part in ("map_generator", "color_net"):
        prefix = f"appearance.{part}."
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        torch.save(weights, folder / f"{part}.pth")
    box = torch.nn.Parameter(state["splats.box_coords"])
    torch.save({"box_coord": box, "non": torch.zeros(1)}, folder / "other_attributes_dict.pth")


def main(argv: list[str] | None = None) -> None:
    """Convert one folder."""
    args = parse_args(argv)
    import torch

    from mmcity.engine.checkpointing import (
        check_is_checkpoint,
        check_matches_model,
        load_from_local,
    )
    from mmcity.registry import MODELS
    from mmcity.utils import register_all_modules
    from mmcity.utils.fileio import atomic_path

    register_all_modules()
    if args.reverse:
        state = check_is_checkpoint(load_from_local(args.src, map_location="cpu"), args.src)
        number = args.iteration or int(state["iteration"])
        folder = Path(args.dst) / "ckpts_point_cloud" / f"iteration_{number}"
        restore(state, folder)
        print(f"wrote {folder}; cfg_args and cameras.json stay those of the training")
        return
    state, config = convert(Path(args.src), args.iteration)
    check_matches_model(MODELS.build(dict(config)), state, args.src)
    dst = Path(args.dst)
    with atomic_path(dst) as temporary:
        torch.save({"state_dict": state, "meta": {}}, temporary)
    text = f"# The scene of {dst.name}.\ndefault_scope = 'mmcity'\nmodel = {config!r}\n"
    with atomic_path(dst.with_suffix(".py")) as temporary:
        Path(temporary).write_text(text)
    print(f"{dst}: {len(state['splats.means'])} Gaussians; config {dst.with_suffix('.py')}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
