"""Making everything of the toolbox known to the registries."""

import importlib

_PACKAGES = (
    *("mmcity.datasets", "mmcity.engine", "mmcity.evaluation"),
    *("mmcity.models", "mmcity.visualization"),
)


def enable_config_package() -> None:
    """Let ``_base_ = ['mmcity::_base_/default_runtime.py']`` find the installed configs."""
    from mmengine.config import utils as config_utils

    config_utils.MODULE2PACKAGE.setdefault("mmcity", "mmcity")


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import every package that registers modules.

    Args:
        init_default_scope: Whether to make ``mmcity`` the default scope, so that a type
            name without prefix is looked up here. Defaults to True.
    """
    enable_config_package()
    for name in _PACKAGES:
        importlib.import_module(name)
    if init_default_scope:
        from mmengine.registry import init_default_scope as set_scope

        set_scope("mmcity")
