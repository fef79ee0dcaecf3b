"""Look at a COLMAP scene from which a localiser is to be made, before anything is trained."""

import argparse

EXAMPLE = "mmcity data check-scene data/scene --alignment data/scene/alignment.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the checks."""
    parser.add_argument("scene", help="COLMAP scene folder")
    parser.add_argument(
        "--no-network", action="store_true", help="no pose network: any mixture of cameras"
    )
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--metric", action="store_true", help="scene units are metres")
    scale.add_argument("--alignment", help="alignment.json, which says how many metres they are")


def run(args: argparse.Namespace) -> None:
    """Check; status 1 if training makes no sense."""
    from mmcity.datasets.alignment import read_alignment
    from mmcity.engine.rap.scene_checks import check_localization_scene
    from mmcity.utils import UserError

    unit_scale = 1.0 if args.metric else None
    if args.alignment is not None:
        unit_scale = float(read_alignment(args.alignment).scale)
    checks = check_localization_scene(args.scene, not args.no_network, unit_scale)
    print("\n".join(map(str, checks)))
    errors = [check.what for check in checks if check.level == "error"]
    if errors:
        raise UserError(f"{args.scene}: the scene cannot be trained on: {', '.join(errors)}")
