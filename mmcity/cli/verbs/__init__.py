"""Verbs of the command ``mmcity``."""

__all__: list[str] = []
