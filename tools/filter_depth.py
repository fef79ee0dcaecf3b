"""Mask depth priors that neighbouring views contradict.

    python tools/filter_depth.py SCENE --out train/mask [--factor 4] [--max-error 1]

Writes one mask (0 or 255) per training image at the training size. Images that have one
already are left as they are, so an interrupted run goes on where it stopped.
"""

import argparse
from pathlib import Path, PurePosixPath

import torch
from PIL import Image
from rich.progress import track

from mmcity.datasets import CityGSXDataset
from mmcity.structures.multi_view import consistent_depth, find_neighbours
from mmcity.utils.fileio import atomic_path


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("scene", type=Path, help="scene folder")
    parser.add_argument("--out", default="train/mask", help="folder below the scene")
    parser.add_argument("--image-dir", default="auto")
    parser.add_argument("--depth-dir", default="auto")
    parser.add_argument("--factor", type=float, default=1.0, help="divisor of the pictures' size")
    parser.add_argument("--max-error", type=float, default=1.0, help="px a point may be off")
    parser.add_argument("--num", type=int, default=8, help="neighbours per view")
    parser.add_argument("--max-angle", type=float, default=30.0, help="degrees")
    parser.add_argument("--min-dis", type=float, default=0.01, help="world units")
    parser.add_argument("--max-dis", type=float, default=1.5, help="world units")
    parser.add_argument(
        "--keep-unfiltered",
        action="store_true",
        help="views without neighbours count as valid instead of invalid",
    )
    return parser.parse_args()


def main() -> None:
    """Filter all training views."""
    args = parse_args()
    dataset = CityGSXDataset(
        args.scene,
        split="train",
        image_dir=args.image_dir,
        depth_dir=args.depth_dir,
        resize=dict(factor=args.factor),
        use_neighbours=False,
    )
    neighbours = find_neighbours(
        dataset.cameras, args.num, args.max_angle, args.min_dis, args.max_dis
    )
    known: dict[int, torch.Tensor] = {}

    def depth(row: int) -> torch.Tensor:
        if row not in known:
            if len(known) > 64:  # bounds memory; neighbours come close after one another
                known.pop(next(iter(known)))
            prior = dataset[row]["data_samples"].get("inverse_depth")
            width, height = dataset.cameras[row].one_size()
            prior = torch.zeros(height, width) if prior is None else prior
            known[row] = torch.where(prior > 0, 1 / prior, torch.inf)
        return known[row]

    class Depths:
        def __getitem__(self, row: int) -> torch.Tensor:
            return depth(row)

    folder, shares = args.scene / args.out, []
    for row in track(range(len(dataset)), "Filtering depth priors"):
        path = folder / f"{PurePosixPath(dataset.img_names[row]).stem}.png"
        if path.is_file():
            continue
        if neighbours[row]:
            mask = consistent_depth(
                Depths(), dataset.cameras, row, neighbours[row], max_error=args.max_error
            )
        else:
            mask = torch.full(depth(row).shape, args.keep_unfiltered)
        shares.append(float(mask.float().mean()))
        with atomic_path(path) as temporary:
            Image.fromarray((mask * 255).to(torch.uint8).numpy()).save(temporary)
    lonely = sum(not rows for rows in neighbours)
    kept = sum(shares) / max(len(shares), 1)
    print(f"{folder}: {len(shares)} masks written, {kept:.1%} kept, {lonely} without neighbours")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
