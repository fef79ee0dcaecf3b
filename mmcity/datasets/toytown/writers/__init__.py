"""Writers of the toy town, one function per file format."""

from mmcity.datasets.toytown.writers.citygsx import write_citygsx

#: Format name to its writer ``(out, config, image_size=None, workers=1) -> folder``.
WRITERS = {
    "citygsx": write_citygsx,
}

__all__ = ["WRITERS", "write_citygsx"]
