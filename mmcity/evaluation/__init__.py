"""Metrics (registered), the pure functions under them, and feature extractors."""

from . import feature_extractors, functional, metrics

__all__ = ["feature_extractors", "functional", "metrics"]
