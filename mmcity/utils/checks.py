"""Checks of arguments that many functions and classes share."""

import os
from collections.abc import Iterable, Sized

from mmengine.logging import print_log


def check_choice(
    name: str, value: object, choices: Iterable[object], error: type[Exception] = ValueError
) -> None:
    """Refuse a value that is none of the choices.

    Args:
        name: The argument as its user knows it.
        value: What was given.
        choices: What can be given.
        error: Type of the exception. Defaults to ValueError.

    Raises:
        ValueError: If the value is none of the choices.
    """
    known = list(choices)
    if value not in known:
        raise error(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}")


def count_pairs(
    where: str | os.PathLike,
    trim: bool = False,
    error: type[Exception] = ValueError,
    **parts: Sized,
) -> int:
    """Number of rows of things that belong together by their order, such as frames and poses.

    Args:
        where: File or folder they come from.
        trim: Leave out, with a warning, what stands without a partner at the end: files of
            poses often lack the last ones. Defaults to False: that is an error, since a part
            that is missing elsewhere moves all that follow.
        error: Type of the exception. Defaults to ValueError.
        **parts: The things by name.

    Returns:
        Number of whole rows.

    Raises:
        ValueError: If there are different numbers of them, and they are not to be trimmed.
    """
    counts = {name: len(part) for name, part in parts.items()}
    least = min(counts.values())
    if least != max(counts.values()):
        got = " and ".join(f"{count} {name}" for name, count in counts.items())
        if not trim:
            raise error(
                f"{where}: expected as many {' as '.join(counts)}, got {got}: complete the files"
            )
        print_log(f"{where}: {got}: what has no partner is left out", "current", 30)
    return least
