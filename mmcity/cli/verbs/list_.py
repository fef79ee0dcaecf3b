"""List systems and their configs, or the types that configs may name."""

import argparse

EXAMPLE = "mmcity list citygsx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of listing."""
    parser.add_argument("what", nargs="?", help="a system (part of its name), or a role")
    parser.add_argument(
        "--types", action="store_true", help="types that configs may name, by role (models, ...)"
    )


def run(args: argparse.Namespace) -> None:
    """Print them."""
    (_list_types if args.types else _list_configs)(args.what)


def _list_configs(what: str | None) -> None:
    from mmcity.utils.cli import UserError
    from mmcity.utils.config_index import read_config_index

    systems = read_config_index()
    chosen = [system for system in systems if what is None or what.lower() in system.name]
    if not chosen:
        names = ", ".join(system.name for system in systems)
        raise UserError(f"no system is called {what!r}; there are {names}")
    for system in chosen:
        print(f"{system.name}: {system.paper}")
        for name, config in system.configs.items():
            print(f"  {name:36s} {config}")


def _list_types(what: str | None) -> None:
    from mmengine.registry import Registry

    from mmcity import registry
    from mmcity.utils.cli import UserError
    from mmcity.utils.setup_env import register_all_modules

    register_all_modules()
    roles = {
        name.lower(): value for name, value in vars(registry).items() if isinstance(value, Registry)
    }
    chosen = {role: r for role, r in roles.items() if what is None or what.lower() in role}
    if not chosen:
        raise UserError(f"no role is called {what!r}; there are {', '.join(roles)}")
    for role, found in chosen.items():
        if found.module_dict:
            print(f"{role}: {', '.join(sorted(found.module_dict))}")
