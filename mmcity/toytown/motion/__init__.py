"""Moving agents of a toy town, and the paths of its cameras."""
