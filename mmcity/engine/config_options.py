"""Options of the command line that change a config."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from .config_check import KNOWN_KEYS, ConfigError, check_option_keys

_WORDS = {"true": True, "false": False, "none": None}


class TypedOptions(dict):
    """Values of options by key, and in ``texts`` what was typed.

    What a text means depends on the value that it replaces: ``20240513`` is a number for
    ``max_iters`` and a folder for ``data_root``.
    """

    def __init__(self, values: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(values)
        self.texts: dict[str, str] = {}


def parse_options(texts: Sequence[str] | None) -> TypedOptions:
    """Parse ``KEY=VALUE`` pairs: numbers, booleans, None, lists and tuples, else text.

    Unlike mmengine's action, text keeps its spaces, so that paths may hold them.
    :func:`merge_options` reads the texts again, by the type of the value that they replace.

    Raises:
        ConfigError: If a pair has no ``=``.
    """
    options = TypedOptions()
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"--cfg-options: expected KEY=VALUE, got {text!r}")
        options[key] = _parse_value(value)
        options.texts[key] = value
    return options


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if is_quoted else text


def _like(old: Any, key: str, text: str) -> Any:
    """Value of a text that replaces another value."""
    value = _parse_value(text)
    if text == "None" or old is None:
        return value
    if isinstance(old, Mapping):
        if isinstance(value, str):
            raise ConfigError(
                f"--cfg-options {key}: expected None, or values of its keys ({key}.KEY=VALUE), "
                f"got {text!r}"
            )
        return value
    if isinstance(old, str):
        return _unquoted(text)
    if isinstance(old, (list, tuple)):
        return _list_like(old, key, text, value)
    kinds = {bool: "true or false", int: "a number", float: "a number"}
    if type(old) in kinds and not isinstance(value, (list, tuple)):
        if isinstance(value, str) or (type(old) is bool and value not in (0, 1)):
            raise ConfigError(
                f"--cfg-options {key}: expected {kinds[type(old)]} as the config has, got {text!r}"
            )
        is_whole = type(old) is int and isinstance(value, float) and value.is_integer()
        return type(old)(value) if type(old) is bool or is_whole else value
    return value


def _list_like(old: Sequence, key: str, text: str, value: Any) -> Any:
    """Value of a text that replaces a list: one item, several, or a whole list."""
    opens, closes = text[:1] in ("[", "("), text[-1:] in ("]", ")")
    if opens != closes or (opens and isinstance(value, str)):
        raise ConfigError(f"--cfg-options {key}: expected a list as the config has, got {text!r}")
    if old and all(isinstance(item, str) for item in old):
        words = (text[1:-1] if opens else text).split(",")
        return type(old)(_unquoted(word.strip()) for word in words if word.strip())
    items = value if isinstance(value, (list, tuple)) else type(old)([value])
    are_numbers = old and all(isinstance(item, (int, float)) for item in old)
    if are_numbers and any(isinstance(item, str) for item in items):
        raise ConfigError(f"--cfg-options {key}: expected numbers as the config has, got {text!r}")
    return items


def _parse_value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if text[:1] in ("[", "(") or "," in text:
        return DictAction._parse_iterable(text)
    return _unquoted(text)


def merge_options(cfg: Config, options: Mapping[str, Any] | None) -> None:
    """Merge options into a config, in place.

    A variable of the config that holds a path or name (``data_root``) is followed to the
    places that were made from it: values equal to it, or paths below it.

    Raises:
        ConfigError: If an option names nothing that exists, has another type than the value that
            it replaces, or is a variable whose uses cannot be told (set the places themselves).
    """
    check_option_keys(cfg, options)
    texts = getattr(options, "texts", {})
    for key, value in (options or {}).items():
        if key in texts:
            value = _like(_old_value(cfg, key.split(".")), key, texts[key])
        key, value = _with_its_list(cfg, key, value)
        if key in cfg and key not in KNOWN_KEYS and "." not in key:
            _replace_variable(cfg, key, value)
        _fill_none(cfg, key.split("."))
        cfg.merge_from_dict({key: value})


def _with_its_list(cfg: Config, key: str, value: Any) -> tuple[str, Any]:
    """The list and its name in place of one of its values (``betas.0``), for the whole."""
    name, _, place = key.rpartition(".")
    whole = _old_value(cfg, name.split(".")) if name else None
    if not isinstance(whole, (list, tuple)) or isinstance(_old_value(cfg, key.split(".")), Mapping):
        return key, value
    if not place.isdecimal() or int(place) >= len(whole):
        raise ConfigError(
            f"--cfg-options {key}: expected a place from 0 to {len(whole) - 1} of a list, got "
            f"{place!r}"
        )
    changed = list(whole)
    changed[int(place)] = value
    return _with_its_list(cfg, name, type(whole)(changed))


def _old_value(cfg: Config, parts: Sequence[str]) -> Any:
    node: Any = cfg
    for part in parts:
        if isinstance(node, (list, tuple)):
            node = node[int(part)] if part.isdecimal() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, (Mapping, Config)) else None
    return node


def _fill_none(cfg: Config, parts: Sequence[str]) -> None:
    """Put a dict where the config has None and the option goes below it."""
    node: Any = cfg
    for part in parts[:-1]:
        if isinstance(node, Mapping | Config) and node.get(part, 0) is None:
            node[part] = ConfigDict()
        if isinstance(node, list):
            node = node[int(part)]
        elif part in node:
            node = node[part]
        else:
            return


def _replace_variable(cfg: Config, name: str, new: Any) -> None:
    old = cfg[name]
    if isinstance(old, Mapping):
        return  # a dict variable is merged like any other
    uses = [(path, holder, key) for path, holder, key in _leaves(cfg, "") if path != name]
    if isinstance(old, str) and isinstance(new, str) and old:
        below = old.rstrip("/") + "/"
        for _, holder, key in uses:
            value = holder[key]
            if value == old:
                holder[key] = new
            elif isinstance(value, str) and value.startswith(below):
                holder[key] = new.rstrip("/") + "/" + value[len(below) :]
        return
    equal = [path for path, holder, key in uses if holder[key] == old and type(old) is not bool]
    if equal:
        raise ConfigError(
            f"--cfg-options {name}: expected no variable that the config has already used, got "
            f"'{name}': set the places instead; equal to it now: {', '.join(equal[:8])}"
        )


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Pairs of container and key of every value that is no dict or list."""
    items = node.items() if isinstance(node, (Mapping, Config)) else enumerate(node)
    for key, value in items:
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, (Mapping, list)):
            yield from _leaves(value, here)
        else:
            yield here, node, key
