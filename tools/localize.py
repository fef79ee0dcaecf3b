"""Localise pictures in a map: ``python tools/localize.py SCENE --map scene.ply --out DIR``."""

import argparse
import json
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Poses, covariances and confidences of pictures in a Gaussian map"
    )
    parser.add_argument("scene", help="COLMAP scene folder of the mapped images")
    parser.add_argument("--map", required=True, help="3DGS .ply file, or checkpoint")
    parser.add_argument("--map-config", help="config of a map given as a checkpoint")
    parser.add_argument(
        "--queries", help="image or folder; default: the test split of the scene, with errors"
    )
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--config", help="config of a pose network")
    parser.add_argument("--checkpoint", help="its weights")
    parser.add_argument("--long-side", type=int, help="px to which larger pictures are reduced")
    parser.add_argument("--starts", type=int, default=3, help="first poses from mapped images")
    parser.add_argument("--focal", type=float, help="px, of the queries; default: as mapped")
    parser.add_argument("--limit", type=int, help="localise only the first so many")
    parser.add_argument("--no-pictures", action="store_true", help="no query beside render")
    parser.add_argument("--device")
    return parser.parse_args(argv)


def queries_of(args, mapped, dataset_type, resize):
    """Triples of name, image array and true camera (None where it is unknown)."""
    from mmcity.datasets.transforms.posed_images import read_image

    if args.queries is None:
        test = dataset_type(args.scene, split="test", resize=resize, require_points=False)
        for row in range(len(test))[: args.limit]:
            yield test.img_names[row], test.load(row)["img"], test.cameras[row]
        return
    path = Path(args.queries)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files[: args.limit]:
        try:
            yield file.name, read_image(file), None
        except (OSError, ValueError) as error:
            yield file.name, error, None


def pose_line(name: str, camera) -> str:
    """``name qw qx qy qz tx ty tz``, world to camera."""
    from mmcity.structures.geometry import rotmat_to_quat

    viewmat = camera.viewmats[0].double()
    numbers = [*rotmat_to_quat(viewmat[:3, :3]).tolist(), *viewmat[:3, 3].tolist()]
    return " ".join([name, *(f"{n:.9g}" for n in numbers)])


def main(argv: list[str] | None = None) -> None:
    """Localise."""
    args = parse_args(argv)

    import numpy as np
    import torch

    from mmcity.apis import LocalizationResult, Localizer, SceneRenderer
    from mmcity.datasets import ColmapDataset
    from mmcity.evaluation.functional.localization import (
        localization_errors,
        summarize_localization,
    )
    from mmcity.utils import check_dependencies
    from mmcity.utils.fileio import atomic_path
    from mmcity.visualization.video import write_image

    check_dependencies()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    resize = None if args.long_side is None else dict(long_side=args.long_side)
    mapped = ColmapDataset(args.scene, split="train", resize=resize, require_points=False)
    renderer = SceneRenderer(args.map_config, args.map, device=args.device)
    localizer = Localizer(
        renderer, mapped, args.config, args.checkpoint, num_starts=args.starts, device=args.device
    )
    lines, table, errors = [], [], []
    for name, image, truth in queries_of(args, mapped, ColmapDataset, resize):
        if isinstance(image, Exception):
            result = LocalizationResult(name, reason=str(image))
        else:
            K = None if truth is None else truth.Ks[0].numpy()
            if K is None and args.focal is not None:
                height, width = image.shape[:2]
                K = np.array([[args.focal, 0, width / 2], [0, args.focal, height / 2], [0, 0, 1]])
            result = localizer.localize(image, K, name=name, exclude=name)
        row = {
            "name": name,
            "status": result.status,
            "confidence": result.confidence,
            "reason": result.reason,
            "source": result.source,
            "seconds": result.seconds,
            **result.details,
        }
        if result.camera is not None:
            lines.append(pose_line(name, result.camera))
            row["cam_to_world"] = result.cam_to_world.tolist()
        if truth is not None:
            pair = (float("inf"), float("inf"))
            if result.status != "failed":
                found = localization_errors(result.camera.cam_to_world, truth.cam_to_world)
                pair = tuple(float(e) for e in found)
            errors.append(pair)
            row["error_translation"], row["error_rotation"] = pair
        if result.covariance is not None:
            row["covariance"] = result.covariance.tolist()
        table.append(row)
        print(f"{name}: {result.status} {result.confidence:.2f} {result.reason}", flush=True)
        if not args.no_pictures and result.status != "failed":
            render = next(renderer.iterate(result.camera.to(torch.float32)))["rgb"]
            query = torch.from_numpy(image).permute(2, 0, 1).float() / 255
            path = (out / "pictures" / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, torch.cat([query, render], dim=2))
    summary = {}
    if errors:
        values = torch.tensor(errors, dtype=torch.float64)
        summary = summarize_localization(values[:, 0], values[:, 1])
        print("\n".join(f"{key}: {value:.4g}" for key, value in summary.items()))
    with atomic_path(out / "poses.txt") as temporary:
        Path(temporary).write_text("\n".join(["# name qw qx qy qz tx ty tz", *lines]) + "\n")
    with atomic_path(out / "results.json") as temporary:
        Path(temporary).write_text(json.dumps({"summary": summary, "queries": table}, indent=1))
    print(f"wrote {out / 'poses.txt'} and {out / 'results.json'}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
