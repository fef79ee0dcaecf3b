"""The command ``mmcity``: what is installed, what there is to run, a first run.

Training and testing are commands of their own (``tools/train.py``, ``mim train mmcity``).
"""

import argparse
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

_PACKAGE = Path(__file__).resolve().parent


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="mmcity", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, libraries, operators, GPUs")
    listing = commands.add_parser("list", help="systems and their configs, or registered types")
    listing.add_argument("what", nargs="?", help="a system (part of its name), or a role")
    listing.add_argument(
        "--types", action="store_true", help="types that configs may name, by role (models, ...)"
    )
    demo = commands.add_parser("demo", help="reconstruct a small scene and show what came out")
    demo.add_argument("--scene", type=Path, help="any COLMAP folder; default: the one that comes")
    demo.add_argument("--out", type=Path, default=Path("outputs/demo"), help="for the results")
    demo.add_argument("--max-iters", type=int, help="stop after so many, for a quick look")
    demo.add_argument("--no-toytown", action="store_true", help="only the scene")
    return parser.parse_args(argv)


def show_info() -> None:
    """Print the environment."""
    from mmcity.utils.cli import find_root
    from mmcity.utils.collect_env import collect_env

    info = collect_env()
    width = max(map(len, info))
    for name, value in info.items():
        print(f"{name:{width}s}  {value}")
    print(f"{'configs and tools':{width}s}  {find_root()}")


def list_configs(what: str | None) -> None:
    """Print the configs of the metafiles, by system."""
    import yaml

    from mmcity.utils.cli import UserError, find_root

    root = find_root()
    files = yaml.safe_load((root / "model-index.yml").read_text(encoding="utf-8"))["Import"]
    shown, systems = 0, []
    for file in files:
        content = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        system = Path(file).parent.name
        systems.append(system)
        if what is not None and what.lower() not in system:
            continue
        paper = content["Collections"][0].get("Paper", {}).get("Title", "")
        print(f"{system}: {paper}")
        for model in content["Models"]:
            print(f"  {model['Name']:36s} {model['Config']}")
            shown += 1
    if not shown:
        raise UserError(f"no system is called {what!r}; there are {', '.join(systems)}")


def list_types(what: str | None) -> None:
    """Print the registered types, by role."""
    from mmengine.registry import Registry

    from mmcity import registry
    from mmcity.utils.cli import UserError
    from mmcity.utils.setup_env import register_all_modules

    register_all_modules()
    roles = {
        name.lower(): value
        for name, value in vars(registry).items()
        if isinstance(value, Registry) and not name.startswith("MMENGINE_")
    }
    chosen = {role: r for role, r in roles.items() if what is None or what.lower() in role}
    if not chosen:
        raise UserError(f"no role is called {what!r}; there are {', '.join(roles)}")
    for role, found in chosen.items():
        if found.module_dict:
            print(f"{role}: {', '.join(sorted(found.module_dict))}")


def run_demo(args: argparse.Namespace) -> None:
    """Run the demonstration of the source tree."""
    from mmcity.utils.cli import UserError

    script = _PACKAGE.parent / "demo" / "run.py"
    if not script.is_file():
        raise UserError(
            "the demonstration lies in the source tree; clone the repository and call "
            "`mmcity demo` or `make demo` there"
        )
    words: list[object] = ["--out", args.out.resolve()]
    for name in ("scene", "max_iters"):
        if getattr(args, name) is not None:
            words += [f"--{name.replace('_', '-')}", getattr(args, name)]
    words += ["--no-toytown"] if args.no_toytown else []
    done = subprocess.run([sys.executable, str(script), *map(str, words)], check=False)
    if done.returncode:
        raise UserError(f"the demonstration ended with status {done.returncode}")


def dispatch(argv: list[str] | None = None) -> None:
    """Run the chosen command."""
    args = parse_args(argv)
    if args.command == "info":
        show_info()
    elif args.command == "demo":
        run_demo(args)
    elif args.types:
        list_types(args.what)
    else:
        list_configs(args.what)


def main() -> None:
    """Entry point of the console script."""
    from mmcity.utils.cli import run_command

    run_command(dispatch)


if __name__ == "__main__":
    main()
