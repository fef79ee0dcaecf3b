"""Metric or geographic frame of a COLMAP scene from known positions of its cameras.

``python tools/dataset_converters/align_scene.py SCENE --positions gps.csv`` writes
``SCENE/alignment.json``, which ``tools/localize.py --alignment`` takes. The CSV has columns
``name,x,y,z`` (metres) or ``name,latitude,longitude,height``; names are images, or, with
``--points``, control points whose scene coordinates a second CSV ``name,x,y,z`` gives.
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", help="COLMAP scene folder")
    parser.add_argument("--positions", required=True, help="CSV of known positions")
    parser.add_argument("--points", help="CSV of control points in scene units")
    parser.add_argument(
        "--threshold", type=float, default=10.0, help="metres above which a position is wrong"
    )
    parser.add_argument("--out", help="default: alignment.json in the scene")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Align."""
    args = parse_args(argv)
    import numpy as np

    from mmcity.datasets.alignment import (
        align_positions,
        geodetic_to_enu,
        read_positions,
        write_alignment,
    )
    from mmcity.datasets.io import read_colmap_model
    from mmcity.datasets.io.colmap_model import find_colmap_model

    known, kind = read_positions(args.positions)
    if args.points is not None:
        have, points_kind = read_positions(args.points)
        if points_kind != "metric":
            raise ValueError(f"{args.points}: expected columns name,x,y,z in scene units")
    else:
        model = read_colmap_model(find_colmap_model(Path(args.scene)))
        have = {}
        for image in model.images.values():
            viewmat = image.viewmat
            have[image.name] = -viewmat[:3, :3].T @ viewmat[:3, 3]
    names = sorted(set(known) & set(have))
    if len(names) < 3:
        raise ValueError(
            f"{args.positions}: expected at least 3 names of the scene such as "
            f"{sorted(have)[:3]}, got {len(names)} of {len(known)}"
        )
    source = np.stack([have[name] for name in names])
    target, origin = np.stack([known[name] for name in names]), None
    if kind == "geodetic":
        origin = target.mean(0)
        target = geodetic_to_enu(target, origin)
    similarity, residuals = align_positions(source, target, args.threshold)
    agree = residuals < args.threshold
    out = Path(args.out or Path(args.scene) / "alignment.json")
    write_alignment(
        out,
        similarity,
        origin,
        frame="east, north, up of the origin" if origin is not None else "as given",
        positions=len(names),
        agreeing=int(agree.sum()),
        rms_metres=float(np.sqrt((residuals[agree] ** 2).mean())),
    )
    print(
        f"{int(agree.sum())} of {len(names)} positions agree within {args.threshold:g} m, rms "
        f"{np.sqrt((residuals[agree] ** 2).mean()):.3f} m; one scene unit is "
        f"{float(similarity.scale):.6g} m"
    )
    print(f"wrote {out}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
