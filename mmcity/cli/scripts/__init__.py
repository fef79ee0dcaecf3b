"""Commands that only a script of ``tools/`` starts."""

__all__: list[str] = []
