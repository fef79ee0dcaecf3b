"""Metrics (registered) and the pure functions under them."""

from . import functional, metrics

__all__ = ["functional", "metrics"]
