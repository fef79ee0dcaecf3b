"""Scene from a folder of pictures: ``python .../images_to_colmap.py IMAGES OUT``.

Features, matching, incremental mapping and undistortion by pycolmap (one shared camera), with
checks of what came out. The result is a COLMAP scene that every reader of the toolbox takes.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
#: Exhaustive matching is quadratic; above this many pictures neighbours are matched.
_MOST_EXHAUSTIVE = 250
_FEW_REGISTERED = 0.8
_LARGE_ERROR = 1.5


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="folder of pictures, sub-folders included")
    parser.add_argument("out", help="folder of the scene to make")
    parser.add_argument("--camera-model", default="OPENCV", help="COLMAP model that is fitted")
    parser.add_argument(
        "--matching", default="auto", choices=("auto", "exhaustive", "sequential"),
        help=f"auto: exhaustive up to {_MOST_EXHAUSTIVE} pictures",
    )  # fmt: skip
    parser.add_argument("--overlap", type=int, default=15, help="sequential: neighbours matched")
    parser.add_argument("--max-features", type=int, default=4096, help="per picture")
    parser.add_argument("--max-image-size", type=int, default=1600, help="px, for features")
    parser.add_argument("--test-every", type=int, default=0, help="hold out every n-th picture")
    parser.add_argument("--threads", type=int, default=-1, help="-1: all cores")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def _pycolmap():
    try:
        import pycolmap
    except ImportError as error:
        raise ImportError(
            "mapping a folder of pictures needs pycolmap: pip install -r requirements/mapping.txt"
        ) from error
    return pycolmap


def find_pictures(folder: Path) -> list[str]:
    """Names below a folder, sorted.

    Raises:
        FileNotFoundError: If there are fewer than three.
    """
    names = sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES
    )
    if len(names) < 3:
        raise FileNotFoundError(f"{folder}: expected at least 3 pictures, found {len(names)}")
    return names


def check_sizes(folder: Path, names: list[str]) -> None:
    """All pictures must be readable and of one size, since they share one camera."""
    from mmcity.datasets.transforms.posed_images import image_size

    sizes: dict[tuple[int, int], list[str]] = {}
    for name in names:
        sizes.setdefault(tuple(image_size(folder / name)), []).append(name)
    if len(sizes) > 1:
        text = "; ".join(f"{w}x{h}: {len(n)}, e.g. {n[0]}" for (w, h), n in sizes.items())
        raise ValueError(
            f"{folder}: expected pictures of one size from one camera, got {text}. What to do: "
            "map each camera's pictures alone, or leave the odd ones out"
        )


def reconstruct(args: argparse.Namespace, names: list[str], work: Path):
    """The largest model, as pycolmap's reconstruction, and the folder that holds it."""
    pycolmap = _pycolmap()
    pycolmap.set_random_seed(args.seed)
    database = work / "database.db"
    folder = Path(args.images)
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.max_image_size, extraction.num_threads = args.max_image_size, args.threads
    extraction.sift.max_num_features = args.max_features
    print(f"1/4 features of {len(names)} pictures", flush=True)
    pycolmap.extract_features(
        database,
        folder,
        image_names=names,
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=pycolmap.ImageReaderOptions(camera_model=args.camera_model),
        extraction_options=extraction,
    )
    kind = args.matching
    if kind == "auto":
        kind = "exhaustive" if len(names) <= _MOST_EXHAUSTIVE else "sequential"
    print(f"2/4 {kind} matching", flush=True)
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = args.threads
    if kind == "exhaustive":
        pycolmap.match_exhaustive(database, matching_options=matching)
    else:
        pairing = pycolmap.SequentialPairingOptions(overlap=args.overlap)
        pycolmap.match_sequential(database, matching_options=matching, pairing_options=pairing)
    print("3/4 mapping", flush=True)
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = args.threads, args.seed
    done = []

    def say() -> None:
        done.append(1)
        if len(done) % 10 == 0:
            print(f"    {len(done) + 2} pictures placed", flush=True)

    models = pycolmap.incremental_mapping(
        database, folder, work / "models", options=options, next_image_callback=say
    )
    if not models:
        raise RuntimeError(
            f"{folder}: no model could be made. What to do: take more pictures with more overlap "
            "(two thirds of each), of a scene with texture, and move between them"
        )
    number, model = max(models.items(), key=lambda item: item[1].num_reg_images())
    if len(models) > 1:
        print(f"    {len(models)} models that do not connect; the largest is kept", flush=True)
    return model, work / "models" / str(number)


def report(model, names: list[str]) -> list[str]:
    """Lines on what came out; those that start with ``!`` are doubts."""
    placed = model.num_reg_images()
    share, error = placed / len(names), model.compute_mean_reprojection_error()
    lines = [
        f"{placed} of {len(names)} pictures placed, {model.num_points3D()} points, "
        f"mean reprojection error {error:.2f} px"
    ]
    if share < _FEW_REGISTERED:
        lost = sorted(set(names) - {image.name for image in model.images.values()})
        lines.append(f"! not placed: {', '.join(lost[:10])}{' ...' if len(lost) > 10 else ''}")
    if error > _LARGE_ERROR:
        lines.append("! large reprojection error: blurred pictures, moving things, or zoom?")
    lines.append(
        "scale and orientation are arbitrary: tools/dataset_converters/align_scene.py makes metres"
    )
    return lines


def main(argv: list[str] | None = None) -> None:
    """Map."""
    args = parse_args(argv)
    pycolmap = _pycolmap()
    images, out = Path(args.images), Path(args.out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: expected a new or empty folder")
    names = find_pictures(images)
    check_sizes(images, names)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".mapping-") as temporary:
        work = Path(temporary)
        (work / "models").mkdir()
        model, folder = reconstruct(args, names, work)
        print("4/4 undistortion", flush=True)
        pycolmap.undistort_images(work / "scene", folder, images, num_threads=args.threads)
        scene = work / "scene"
        sparse = scene / "sparse" / "0"
        sparse.mkdir()
        for file in [p for p in (scene / "sparse").iterdir() if p.is_file()]:
            file.rename(sparse / file.name)
        for extra in [p for p in scene.iterdir() if p.name not in ("images", "sparse")]:
            shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
        placed = sorted(image.name for image in model.images.values())
        if args.test_every:
            held = placed[args.test_every // 2 :: args.test_every]
            (scene / "list_test.txt").write_text("".join(f"{name}\n" for name in held))
        if out.exists():
            out.rmdir()
        scene.rename(out)
    for line in report(model, names):
        print(line)
    print(f"wrote {out}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
