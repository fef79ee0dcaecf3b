"""Checks of arguments that many functions and classes share."""

from collections.abc import Iterable


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
