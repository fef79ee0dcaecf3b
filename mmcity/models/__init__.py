"""Models of all systems; importing this package fills the MODELS registry."""

from . import (
    citygsx,
    dynamiccity,
    gaussian_splatting,
    gausstr,
    layers,
    losses,
    preprocessors,
    rap,
    renderers,
    streamvggt,
)

__all__ = [
    "citygsx",
    "dynamiccity",
    "gausstr",
    "gaussian_splatting",
    "layers",
    "losses",
    "preprocessors",
    "rap",
    "renderers",
    "streamvggt",
]
