"""Localise pictures in a map: ``python tools/localize.py SCENE --map scene.ply --out DIR``."""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Poses, covariances and confidences of pictures in a Gaussian map"
    )
    parser.add_argument(
        "scene",
        help="COLMAP scene folder of the mapped images, or a localizer.json of "
        "tools/make_localizer.py, which names the map and all else",
    )
    parser.add_argument("--map", help="3DGS .ply file, or checkpoint")
    parser.add_argument("--map-config", help="config of a map given as a checkpoint")
    parser.add_argument(
        "--queries", help="image or folder; default: the test split of the scene, with errors"
    )
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--config", help="config of a pose network")
    parser.add_argument("--checkpoint", help="its weights")
    parser.add_argument(
        "--start",
        default="all",
        choices=("all", "regression", "mapped"),
        help="first poses: the pose network's alone, mapped images that look alike alone, or all",
    )
    parser.add_argument(
        "--poses",
        metavar="FILE",
        help="refine from these first poses instead: lines name qw qx qy qz tx ty tz "
        "(world to camera), such as the poses.txt of another run",
    )
    parser.add_argument("--starts", type=int, default=3, help="mapped images to start from")
    parser.add_argument("--matcher", default="SIFTMatcher", help="registered matcher")
    parser.add_argument("--matcher-weights", help="weights of a learned matcher")
    parser.add_argument(
        "--pnp", default="opencv", choices=("opencv", "poselib", "pycolmap"), help="RANSAC of it"
    )
    parser.add_argument(
        "--depth-mode",
        choices=("expected", "accumulated", "median"),
        help="depth of the map that lifts matches; default: expected",
    )
    parser.add_argument(
        "--sigma-scale", type=float, default=1.0,
        help="factor on predicted deviations, such as the sigma_factor of a run with known poses",
    )  # fmt: skip
    parser.add_argument("--long-side", type=int, help="px to which larger pictures are reduced")
    parser.add_argument(
        "--intrinsics", help="text file of the queries' cameras: name MODEL width height params"
    )
    parser.add_argument("--focal", type=float, help="px, of the queries; default: as mapped")
    parser.add_argument("--limit", type=int, help="localise only the first so many")
    parser.add_argument("--unit-scale", type=float, help="metres per scene unit; default: 1")
    parser.add_argument("--not-metric", action="store_true", help="scene units are not metres")
    parser.add_argument("--alignment", help="JSON of a similarity to metres or a geo frame")
    parser.add_argument(
        "--good", type=float, nargs=2, default=(0.25, 2.0), metavar=("METRES", "DEG"),
        help="errors below which a pose is good, to judge the confidence (default: 0.25 2)",
    )  # fmt: skip
    parser.add_argument("--label", default="", help="name of this run in tables")
    parser.add_argument("--seed", type=int, help="seed of the training, for tables")
    parser.add_argument("--up", type=float, nargs=3, help="direction to look down from")
    parser.add_argument("--no-pictures", action="store_true", help="no query beside render")
    parser.add_argument("--device")
    args = parser.parse_args(argv)
    if args.scene.endswith(".json"):
        from mmcity.apis import read_localizer_file

        parts = read_localizer_file(args.scene)
        parser.set_defaults(**{name: parts[name] for name in parts if name != "scene"})
        args = parser.parse_args(argv)
        args.scene = parts["scene"]
    if args.map is None:
        parser.error("--map is needed unless a localizer.json names it")
    if args.start != "mapped" and args.start != "all" and args.config is None:
        parser.error("--start regression needs --config and --checkpoint")
    return args


def queries_of(args, dataset_type, resize):
    """Triples of name, image array (or what went wrong) and true camera (None if unknown)."""
    from mmcity.datasets.transforms.posed_images import read_image

    if args.queries is None:
        test = dataset_type(args.scene, split="test", resize=resize, require_points=False)
        for row in range(len(test))[: args.limit]:
            try:
                image = test.load(row)["img"]
            except (OSError, ValueError) as error:
                image = error
            yield test.img_names[row], image, test.cameras[row]
        return
    path = Path(args.queries)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files[: args.limit]:
        try:
            yield file.name, read_image(file), None
        except (OSError, ValueError) as error:
            yield file.name, error, None


def read_intrinsics(path):
    """Cameras by name, from lines ``name MODEL width height params`` as COLMAP writes them."""
    from mmcity.datasets.io.colmap_types import ColmapCamera

    cameras = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        parts = line.split()
        if not parts or line.startswith("#"):
            continue
        try:
            width, height, *params = parts[2:]
            camera = ColmapCamera(0, parts[1], int(width), int(height), [float(p) for p in params])
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: expected name MODEL width height params, got {line!r} "
                f"({error})"
            ) from error
        if "FISHEYE" in camera.model and camera.distortion.any():
            raise ValueError(f"{path}, line {number}: undistort fisheye pictures first")
        cameras[parts[0]] = camera
    return cameras


def query_camera(camera, width, height, name):
    """Intrinsics at the picture's size, and OpenCV's distortion (which no size changes)."""
    import numpy as np

    ratio = np.array([width / camera.width, height / camera.height])
    if abs(ratio[0] / ratio[1] - 1) > 0.02:
        raise ValueError(
            f"{name}: {width}x{height}, but its intrinsics are for {camera.width}x{camera.height}"
        )
    return np.diag([*ratio, 1.0]) @ camera.K, camera.distortion


def make_localizer(args, mapped, renderer):
    """The localiser that the command line asks for."""
    from mmcity.apis import Localizer

    matcher = dict(type=args.matcher)
    if args.matcher_weights is not None:
        matcher["weights"] = args.matcher_weights
    starts = {"num_starts": args.starts}
    if args.start == "regression":
        starts = {"num_starts": 0, "num_near": 0}
    elif args.start == "mapped":
        starts.update(start_from_regression=False, num_near=0)
    return Localizer(
        renderer,
        mapped,
        args.config,
        args.checkpoint,
        refiner=dict(matcher=matcher, pnp=dict(backend=args.pnp), sigma_scale=args.sigma_scale),
        device=args.device,
        alignment=args.alignment,
        **starts,
    )


def main(argv: list[str] | None = None) -> None:
    """Localise."""
    args = parse_args(argv)

    import numpy as np
    import torch

    from mmcity.apis import (
        LocalizationReport,
        LocalizationResult,
        SceneRenderer,
        read_pose_file,
    )
    from mmcity.datasets import ColmapDataset
    from mmcity.utils import check_dependencies
    from mmcity.visualization import overlay_halves, to_uint8, write_image

    check_dependencies()
    out = Path(args.out)
    resize = None if args.long_side is None else dict(long_side=args.long_side)
    mapped = ColmapDataset(args.scene, split="train", resize=resize, require_points=False)
    renderer = SceneRenderer(
        args.map_config, args.map, device=args.device, depth_mode=args.depth_mode
    )
    localizer = make_localizer(args, mapped, renderer)
    unmapped = Path(args.scene) / "queries_unmapped.txt"
    report = LocalizationReport(
        scene=Path(args.scene).resolve().name,
        label=args.label or f"start: {args.poses or args.start}",
        scene_extent=float(mapped.scene_extent),
        unit_scale=args.unit_scale or 1.0,
        metric=not args.not_metric,
        mapped_centers=mapped.cameras.centers.numpy(),
        unmapped=unmapped.read_text().split() if unmapped.is_file() else (),
        seed=args.seed,
    )
    cameras = read_intrinsics(args.intrinsics) if args.intrinsics else {}
    poses = read_pose_file(args.poses) if args.poses else None
    for name, image, truth in queries_of(args, ColmapDataset, resize):
        if isinstance(image, Exception):
            result = LocalizationResult(name, reason=str(image))
        elif poses is not None and name not in poses:
            result = LocalizationResult(name, reason=f"no pose in {args.poses}")
        else:
            K = None if truth is None else truth.Ks[0].numpy()
            height, width = image.shape[:2]
            if K is None and args.focal is not None:
                K = np.array([[args.focal, 0, width / 2], [0, args.focal, height / 2], [0, 0, 1]])
            distortion = None
            if name in cameras:
                K, distortion = query_camera(cameras[name], width, height, name)
            start = None if poses is None else poses[name]
            result = localizer.localize(image, K, distortion, name=name, exclude=name, start=start)
        row = report.add(result, truth)
        errors = "" if truth is None else f" {row['error_translation']:.3g} {report.unit}"
        errors += "" if truth is None else f" {row['error_rotation']:.3g} deg"
        print(
            f"{name}: {result.status} {result.confidence:.2f}{errors} {result.reason}", flush=True
        )
        if not args.no_pictures and result.status != "failed":
            render = next(renderer.iterate(result.camera.to(torch.float32)))["rgb"]
            shown = to_uint8(render)
            path = (out / "pictures" / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, np.concatenate([image, shown, overlay_halves(image, shown)], axis=1))
    summary = report.write(out, tuple(args.good))
    for key, value in summary.items():
        print(f"{key}: {_short(value)}")
    for path in report.plot(out, args.up) if not args.no_pictures else []:
        print(f"wrote {path}")
    print(f"wrote {out / 'poses.txt'} and {out / 'results.json'}")


def _short(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
