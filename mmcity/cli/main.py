"""Finding the module of a command, reading its arguments, running it."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from mmcity.utils.cli import run_command

from .flags import apply_shared_flags

#: Verbs that are groups of further ones.
GROUPS = ("data", "weights")


def command_names(place: str) -> list[str]:
    """Names of the commands of ``verbs``, one of its groups or ``scripts``, as they are typed."""
    folder = importlib.import_module(f"mmcity.cli.{place}")
    names = [name for _, name, _ in pkgutil.iter_modules(folder.__path__)]
    return sorted(name.rstrip("_").replace("_", "-") for name in names)


def load_command(place: str, name: str) -> ModuleType:
    """The module of a command; see :mod:`mmcity.cli` for what it holds.

    Raises:
        ModuleNotFoundError: If there is none of this name.
    """
    module = "list_" if name == "list" else name.replace("-", "_")  # Python has taken the name
    return importlib.import_module(f"mmcity.cli.{place}.{module}")


class _CommandParser(argparse.ArgumentParser):
    """Takes values that begin with a dash: longitudes west of Greenwich, ``--up -y``."""

    def _parse_optional(self, arg_string: str):
        is_short = arg_string[:1] == "-" and arg_string[:2] != "--" and len(arg_string) > 1
        if is_short and arg_string[:2] not in self._option_string_actions:
            return None  # no option of ours: the value of one
        return super()._parse_optional(arg_string)


def build_parser(place: str, name: str, prog: str) -> argparse.ArgumentParser:
    """Parser of one command."""
    module = load_command(place, name)
    parser = _CommandParser(
        prog=prog,
        description=module.__doc__,
        epilog=f"example: {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser


def _overview(place: str, prog: str) -> str:
    rows = []
    for name in command_names(place):
        module = importlib.import_module(f"mmcity.cli.{place}.{name}") if name in GROUPS else None
        doc = (module or load_command(place, name)).__doc__ or ""
        rows.append(f"  {name:22s}{doc.strip().splitlines()[0].rstrip('.')}")
    return "\n".join(
        [
            f"usage: {prog} VERB [options]      {prog} VERB --help shows them, with an example",
            "",
            "verbs:",
            *rows,
        ]
    )


def run_command_line(place: str, name: str, argv: Sequence[str], prog: str) -> None:
    """Read the arguments of one command and run it."""
    args = build_parser(place, name, prog).parse_args(argv)
    apply_shared_flags(args)
    load_command(place, name).run(args)


def dispatch(argv: Sequence[str], place: str = "verbs", prog: str = "mmcity") -> None:
    """Run the verb that a command line begins with."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(place, prog))
        if not argv:
            sys.exit(2)
        return
    name, rest = argv[0], argv[1:]
    if name in GROUPS and place == "verbs":
        dispatch(rest, f"verbs.{name}", f"{prog} {name}")
        return
    if name not in command_names(place):
        known = ", ".join(command_names(place))
        print(f"{prog}: there is no verb {name!r}; the verbs are {known}", file=sys.stderr)
        sys.exit(2)
    run_command_line(place, name, rest, f"{prog} {name}")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    words = sys.argv[1:] if argv is None else list(argv)
    run_command(lambda: dispatch(words))


def shell(name: str, place: str = "verbs", words: Sequence[str] = ()) -> None:
    """Entry point of a script of ``tools/``: run one command with the script's arguments.

    Args:
        name: Of the command.
        place: See :func:`command_names`. Defaults to ``verbs``.
        words: Arguments that stand before those of the script. Defaults to none.
    """
    prog = f"mmcity {name}" if words else sys.argv[0]
    run_command(lambda: run_command_line(place, name, [*words, *sys.argv[1:]], prog))
