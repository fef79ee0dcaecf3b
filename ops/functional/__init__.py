"""Public functions of the operators."""

__all__ = []
