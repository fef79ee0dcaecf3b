"""From a folder of pictures to a localiser: ``python tools/make_localizer.py PICTURES OUT``.

Poses (structure from motion, unless the folder is a COLMAP scene or ``--model`` names one), checks,
map, pose network, localisation of the held-out pictures, and ``OUT/localizer.json``, which
``tools/localize.py`` takes. A finished step is not run again; a killed one goes on.
"""

import argparse
from pathlib import Path

_CONFIGS = Path("configs") / "rap"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="folder of pictures, or of a COLMAP scene")
    parser.add_argument("out", help="folder for everything; call again with it to go on")
    poses = parser.add_argument_group("poses and scale")
    poses.add_argument("--model", help="COLMAP model of the pictures; default: look, else make one")
    poses.add_argument(
        "--test-every", type=int, default=10, metavar="N",
        help="hold out every n-th picture as query, where the scene names none (default: 10)",
    )  # fmt: skip
    poses.add_argument("--positions", metavar="CSV", help="GPS or metres of cameras, for metres")
    poses.add_argument("--metric", action="store_true", help="scene units are metres already")
    poses.add_argument(
        "--mapping-options", default="", metavar="WORDS",
        help='for images_to_colmap.py, such as "--matching sequential"',
    )  # fmt: skip
    training = parser.add_argument_group("training and localisation")
    training.add_argument("--map-config", default=str(_CONFIGS / "rap_map_colmap_cpu.py"))
    training.add_argument("--map-options", nargs="+", default=[], metavar="KEY=VALUE")
    training.add_argument("--config", default=str(_CONFIGS / "rap_colmap_cpu.py"))
    training.add_argument("--network-options", nargs="+", default=[], metavar="KEY=VALUE")
    training.add_argument(
        "--no-network", action="store_true",
        help="refine from mapped images that look alike alone; any mixture of cameras",
    )  # fmt: skip
    training.add_argument("--long-side", type=int, default=480, help="px, of queries (480)")
    training.add_argument("--starts", type=int, default=3, help="mapped images to start from")
    training.add_argument("--seed", type=int, default=0)
    steps = parser.add_argument_group("steps: poses checks map pose_network localization localizer")
    steps.add_argument("--force", nargs="+", default=[], metavar="STEP", help="run anew")
    steps.add_argument("--until", metavar="STEP", help="stop after this one")
    args = parser.parse_args(argv)
    if args.test_every < 2:
        parser.error("--test-every: expected at least 2; without queries nothing can be measured")
    return args


def stages_of(args: argparse.Namespace) -> dict[str, dict]:
    """Settings of all steps, in order."""
    from mmcity.engine.launch import load_config, parse_options
    from mmcity.utils.cli import find_root

    def full(path: str | None) -> str | None:
        return None if path is None else str(Path(path).resolve())

    # A config may be one of the toolbox, from wherever the command is called.
    config, map_config = (
        full(path if Path(path).is_file() else find_root() / path)
        for path in (args.config, args.map_config)
    )
    network = load_config(config, parse_options(args.network_options))
    takes_any_camera = network.model.get("data_preprocessor", {}).get("normalize_focal", False)
    stages = {
        "poses": dict(
            type="ScenePoses",
            images=full(args.images),
            model=full(args.model),
            test_every=args.test_every,
            positions=full(args.positions),
            mapping=args.mapping_options.split(),
        ),
        "checks": dict(
            type="CheckScene",
            regression=not (args.no_network or takes_any_camera),
            metric=args.metric,
        ),
        "map": dict(
            type="TrainMap",
            config=map_config,
            cfg_options={"randomness.seed": args.seed, **parse_options(args.map_options)},
        ),
        "pose_network": dict(
            type="PoseNetwork",
            config=config,
            map_option="map_path",
            map_stage="map",
            cfg_options={"randomness.seed": args.seed, **parse_options(args.network_options)},
        ),
        "localization": dict(
            type="LocaliseQueries", long_side=args.long_side, starts=args.starts, map_stage="map"
        ),
        "localizer": dict(type="WriteLocalizer", long_side=args.long_side),
    }
    if args.no_network:
        del stages["pose_network"]
    return stages


def main(argv: list[str] | None = None) -> None:
    """Run all steps and write their report, also where one broke off."""
    args = parse_args(argv)

    import mmcity.workflow  # noqa: F401 - registers the steps
    from mmcity.utils.setup_env import register_all_modules
    from mmcity.workflow import Chain, handover_table, write_report

    register_all_modules()
    chain = Chain(stages_of(args), args.out, args.seed)
    try:
        chain.run(args.force, until=args.until)
    finally:
        report = write_report(chain.manifest, f"Localiser: {Path(args.out).resolve().name}")
        print("\n" + handover_table(chain.manifest))
        print(f"\n{report}")
    made = Path(args.out) / "localizer.json"
    if made.is_file():
        print(f"python tools/localize.py {made} --queries PICTURES --out RESULTS")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
