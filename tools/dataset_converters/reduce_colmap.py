"""Write a smaller copy of a COLMAP scene: pictures, cameras and points of a lower resolution.

python tools/dataset_converters/reduce_colmap.py SRC DST --long-side 480 --quality 85
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmcity.datasets.colmap import find_image_dir, resolve_image
from mmcity.datasets.io.colmap_model import (
    CAMERA_MODELS,
    ColmapCamera,
    ColmapModel,
    find_colmap_model,
    read_colmap_model,
    write_colmap_model,
)
from mmcity.datasets.transforms import read_image, target_size
from mmcity.utils.fileio import atomic_path

FEATURES = ("observed", "none")


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", type=Path, help="scene with images and a sparse model")
    parser.add_argument("dst", type=Path, help="new folder")
    parser.add_argument("--long-side", type=int, default=480, help="px of the longer side")
    parser.add_argument("--quality", type=int, default=85, help="JPEG quality, 1 to 95")
    parser.add_argument(
        "--max-points", type=int, help="keep so many points, those seen by most images first"
    )
    parser.add_argument(
        "--features", choices=FEATURES, default="observed",
        help="keep the 2D points that belong to kept points, with the tracks; or none",
    )  # fmt: skip
    parser.add_argument("--image-dir", default="auto", help="images folder of the source")
    args = parser.parse_args()
    if args.long_side < 1 or not 1 <= args.quality <= 95:
        parser.error("expected --long-side above 0 and --quality from 1 to 95")
    return args


def scaled_camera(camera: ColmapCamera, width: int, height: int) -> ColmapCamera:
    """The camera at another size; a single focal length becomes two where ratios differ."""
    ratio_x, ratio_y = width / camera.width, height / camera.height
    if camera.is_pinhole:
        K = np.diag([ratio_x, ratio_y, 1.0]) @ camera.K
        return ColmapCamera.pinhole(camera.camera_id, width, height, K)
    factors = {"fx": ratio_x, "cx": ratio_x, "fy": ratio_y, "cy": ratio_y, "f": ratio_x}
    names = CAMERA_MODELS[camera.model].params
    params = [value * factors.get(name, 1.0) for name, value in zip(names, camera.params)]
    return ColmapCamera(camera.camera_id, camera.model, width, height, params)


def reduce_model(
    model: ColmapModel, long_side: int, max_points: int | None, features: str
) -> ColmapModel:
    """Cameras, features and points of the reduced scene."""
    cameras = {
        key: scaled_camera(c, *target_size(c.width, c.height, long_side=long_side))
        for key, c in model.cameras.items()
    }
    points = model.points3D
    if max_points is not None and max_points < len(points):
        order = np.argsort(-points.track_lengths, kind="stable")[:max_points]
        points = points[np.sort(order)]
    # Rows of the kept features of each image, old index -> new index.
    kept_rows: dict[int, np.ndarray] = {}
    for image in model.images.values():
        keep = np.isin(image.point3D_ids, points.ids) & (image.point3D_ids >= 0)
        keep &= features != "none"
        kept_rows[image.image_id] = np.where(keep, np.cumsum(keep) - 1, -1)
        old, new = model.cameras[image.camera_id], cameras[image.camera_id]
        image.xys = image.xys[keep] * [new.width / old.width, new.height / old.height]
        image.point3D_ids = image.point3D_ids[keep]
    lengths = np.zeros(len(points), np.int64)
    tracks = np.zeros((0, 2), np.int32)
    if features != "none":
        tracks, lengths = points.tracks.copy(), points.track_lengths
        for image_id, rows in kept_rows.items():
            own = tracks[:, 0] == image_id
            tracks[own, 1] = rows[tracks[own, 1]]
    ratio = np.mean([c.width / model.cameras[k].width for k, c in cameras.items()])
    points = type(points).from_arrays(
        points.xyz,
        points.rgb,
        np.where(points.errors >= 0, points.errors * ratio, points.errors),
        ids=points.ids,
        track_lengths=lengths,
        tracks=tracks,
    )
    return ColmapModel(cameras, model.images, points)


def save_picture(source: Path, target: Path, size: tuple[int, int], quality: int) -> None:
    """Resize one picture; other formats than JPEG keep theirs."""
    image = Image.fromarray(read_image(source)).resize(size, Image.Resampling.LANCZOS)
    with atomic_path(target) as temporary:
        image.save(temporary, quality=quality, optimize=True)


def main() -> None:
    """Reduce a scene."""
    args = parse_args()
    if args.dst.resolve() == args.src.resolve() or (args.dst.exists() and any(args.dst.iterdir())):
        raise SystemExit(f"{args.dst}: expected a new or empty folder as target")
    folder = find_colmap_model(args.src)
    model = read_colmap_model(folder)
    names = [image.name for image in model.images.values()]
    image_dir = find_image_dir(args.src, names, args.image_dir)
    sources = {image.name: resolve_image(image_dir, image.name) for image in model.images.values()}
    missing = [str(path) for path in sources.values() if not path.is_file()]
    if missing:
        raise SystemExit(f"{len(missing)} images do not exist, e.g. {missing[:3]}")
    before = len(model.points3D)
    model = reduce_model(model, args.long_side, args.max_points, args.features)
    write_colmap_model(model, args.dst / folder.relative_to(args.src))
    targets = {}
    for image in track(model.images.values(), "Pictures"):
        camera, source = model.cameras[image.camera_id], sources[image.name]
        target = args.dst / source.relative_to(args.src)
        save_picture(source, target, (camera.width, camera.height), args.quality)
        targets[target.stem] = target
    for held in sorted((args.src / "val/rgbs").glob("*")):
        if held.stem in targets:
            copy = args.dst / "val/rgbs" / targets[held.stem].name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(targets[held.stem], copy)
    for table in (*args.src.glob("list_test.txt"), *args.src.glob("*.tsv")):
        shutil.copyfile(table, args.dst / table.name)
    size = sum(file.stat().st_size for file in args.dst.rglob("*") if file.is_file())
    print(
        f"{args.dst}: {len(targets)} pictures, {len(model.points3D)} of {before} points, "
        f"{size / 1e6:.2f} MB. Masks and depth maps are not copied."
    )


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
