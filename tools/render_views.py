"""Render the training and/or held-out views of a scene.

    python tools/render_views.py CONFIG CHECKPOINT --out renders [--splits train test] \
        [--cfg-options data_root=DIR]

Writes ``OUT/SPLIT/{renders,gt,depths,normals}/NAME.png``: depths in 16 bit, 65535 being
``--depth-limit``; normals in camera axes. Scenes whose colours follow a photograph show each view
as its own photograph looks, or all of them in one ``--appearance``. Checkpoints may be whole or
written in parts by several processes. Several processes (torchrun) share out the views.
"""

import argparse
import os
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from mmcity.engine import launch
from mmcity.engine.scene_loading import load_scene
from mmcity.registry import DATASETS
from mmcity.utils.cli import UserError, run_command
from mmcity.utils.fileio import atomic_path

SPLITS = ("train", "test")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, default=Path("renders"))
    parser.add_argument("--splits", nargs="+", default=["test"], choices=SPLITS)
    parser.add_argument("--every", type=int, default=1, help="take every n-th view")
    parser.add_argument(
        "--appearance",
        metavar="LOOK",
        help="intrinsic, or the name of a training image; default: each view's own photograph",
    )
    parser.add_argument("--blend", type=float, default=1.0, help="weight of the appearance, 0 to 2")
    parser.add_argument("--depth-limit", type=float, help="world units; default: each view's own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE")
    return parser.parse_args()


def datasets(cfg, splits: list[str]) -> dict:
    """The training loader's dataset, without priors, and the test loader's."""
    found = {}
    for split in splits:
        part = (cfg.train_dataloader if split == "train" else cfg.test_dataloader).dataset.copy()
        if part.type == "CityGSXDataset":
            part.update(use_neighbours=False, depth_dir=None, mask_dir=None)
        found[split] = DATASETS.build(part)
    return found


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """``(3, H, W)`` in [0, 1] to ``(H, W, 3)`` uint8."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def appearance_setter(model, cfg, args):
    """What gives a model the look of a view's photograph or the one that was asked for."""
    if not hasattr(model, "set_appearance"):
        raise UserError(
            f"--appearance, --blend: a {type(model).__name__} shows every photograph alike"
        )
    if args.appearance is None:
        return lambda photograph, camera: model.set_appearance(photograph, camera, args.blend)
    if args.appearance == "intrinsic":
        return lambda photograph, camera: model.clear_appearance()
    dataset = datasets(cfg, ["train"])["train"]
    if args.appearance not in dataset.img_names:
        raise UserError(f"--appearance: expected a training image, got {args.appearance!r}")
    item = dataset[dataset.img_names.index(args.appearance)]
    data = model.data_preprocessor(
        dict(inputs=[item["inputs"]["img"]], data_samples=[item["data_samples"]]), False
    )
    model.set_appearance(data["inputs"][0], data["data_samples"][0].camera, args.blend)
    return lambda photograph, camera: None


@torch.no_grad()
def main() -> None:
    """Render and write."""
    args = parse_args()
    cfg = launch.load_config(args.config, launch.parse_options(args.cfg_options))
    model = load_scene(args.checkpoint, cfg).to(args.device)
    set_look = None
    if args.appearance is not None or args.blend != 1:
        set_look = appearance_setter(model, cfg, args)
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for split, dataset in datasets(cfg, args.splits).items():
        folder = args.out / split
        rows = list(range(0, len(dataset), args.every))[rank::size]
        for row in track(rows, f"Rendering {split} views"):
            item = dataset[row]
            data = model.data_preprocessor(
                dict(inputs=[item["inputs"]["img"]], data_samples=[item["data_samples"]]), False
            )
            if set_look is None:
                sample = model.predict(data["inputs"], data["data_samples"])[0]
            else:
                sample, photograph = data["data_samples"][0], data["inputs"][0]
                set_look(photograph, sample.camera)
                model.fill_sample(sample, model.render(sample.camera), photograph)
            name = f"{PurePosixPath(dataset.img_names[row]).stem}.png"
            save(folder / "renders" / name, to_bytes(sample.pred_image))
            save(folder / "gt" / name, to_bytes(sample.gt_image))
            depth = sample.pred_depth.cpu()
            limit = args.depth_limit or max(float(depth.max()), 1e-6)
            levels = (depth / limit).clamp(0, 1) * 65535
            save(folder / "depths" / name, levels.round().numpy().astype(np.uint16))
            save(folder / "normals" / name, to_bytes(sample.pred_normal * 0.5 + 0.5))
        print(f"{folder}: {len(rows)} views")


if __name__ == "__main__":
    run_command(main)
