"""What moves in a toy town, and the paths that cameras take."""

__all__: list[str] = []
