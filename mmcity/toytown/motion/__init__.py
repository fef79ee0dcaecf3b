"""Moving agents of a toy town, and the paths of its cameras."""

__all__: list[str] = []
