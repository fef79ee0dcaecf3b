"""Finding misspelt names in a config before hours of training ignore them."""

import difflib
import inspect
from collections.abc import Iterable, Mapping

from mmengine.config import Config
from mmengine.runner import Runner

from mmcity.utils.cli import UserError

#: Top-level names that the Runner, the tools or mmengine read beside Runner's arguments.
_OTHER_KEYS = (
    *("activation_checkpointing", "compile", "custom_imports", "efficient_conv_bn_eval"),
    *("env_cfg", "find_unused_parameters", "model_wrapper_cfg", "runner_type"),
    *("strategy", "sync_bn", "tta_model", "tta_pipeline"),
)
_RUNNER_KEYS = tuple(name for name in inspect.signature(Runner).parameters if name != "cfg")
KNOWN_KEYS = frozenset((*_RUNNER_KEYS, *_OTHER_KEYS))

#: Variables of configs that OpenMMLab's users know by these names.
_USUAL_VARIABLES = frozenset(("train_pipeline", "val_pipeline", "test_pipeline"))

#: How alike two names must be to be taken for a slip of the pen.
_SIMILARITY = 0.88


class ConfigError(UserError, ValueError):
    """A config has a name that nothing reads."""


def check_config_keys(cfg: Config) -> None:
    """Refuse top-level names that look like a misspelt name of the Runner.

    Other top-level names are variables of the config (``data_root``, ``train_pipeline``)
    and pass.

    Raises:
        ConfigError: Naming the key, the file and the likely intention.
    """
    for key in cfg:
        if key in KNOWN_KEYS or key in _USUAL_VARIABLES:
            continue
        alike = difflib.get_close_matches(key, KNOWN_KEYS, n=1, cutoff=_SIMILARITY)
        if alike:
            raise ConfigError(
                f"{cfg.filename or 'config'}: unknown top-level key '{key}', did you mean "
                f"'{alike[0]}'? (rename it if it is a variable of your own)"
            )


def check_option_keys(cfg: Config, options: Mapping[str, object] | None) -> None:
    """Check that ``--cfg-options`` change something that exists.

    The first part of a key has to be in the config or be known to the Runner. Below that,
    all parts but the last have to exist, since a new argument may be added to a dict that
    is there, but not to one that is not.

    Args:
        cfg: The config before the options are merged.
        options: Dotted keys and their values.

    Raises:
        ConfigError: Naming the option and the likely intention.
    """
    for option in options or {}:
        node: object = cfg
        parts = option.split(".")
        for depth, part in enumerate(parts):
            is_last = depth == len(parts) - 1
            names: Iterable[str]
            if isinstance(node, (list, tuple)):
                names = [str(i) for i in range(len(node))]
            elif isinstance(node, (Mapping, Config)):
                names = list(node)
            elif node is None:
                break  # `visualizer=None` may be filled from the command line
            else:
                raise _unknown_option(option, ".".join(parts[:depth]), (), "is no dict")
            if part in names:
                node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
                continue
            if part == "custom_hooks" and not is_last:
                raise ConfigError(
                    f"--cfg-options {option}: expected default_hooks.NAME, got a position: NAME is "
                    f"one of {', '.join(cfg.get('default_hooks') or ())}"
                )
            if depth == 0 and part not in KNOWN_KEYS:
                raise _unknown_option(option, part, (*names, *KNOWN_KEYS), "is not in the config")
            if depth > 0 and not is_last:
                raise _unknown_option(option, part, names, "is not in the config")
            break


def _unknown_option(option: str, part: str, names: Iterable[str], problem: str) -> ConfigError:
    alike = difflib.get_close_matches(part, list(names), n=1, cutoff=0.6)
    hint = f", did you mean '{alike[0]}'?" if alike else ""
    return ConfigError(f"--cfg-options {option}: '{part}' {problem}{hint}")
