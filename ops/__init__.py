"""Native operators of mmcity, importable as ``mmcity_ops``."""

from mmcity_ops._backend import debug_mode, set_debug

__all__ = ["debug_mode", "set_debug"]
