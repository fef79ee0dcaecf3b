"""Native operators of mmcity, importable as ``mmcity_ops``."""

__all__ = []
