"""Data sets of a few small frames, in the layouts and with the file names of the published ones.

The layouts are written from their descriptions, independently of the readers in
:mod:`mmcity.datasets`, so that a reader that is wrong shows.
"""

from mmcity.miniature.layouts import LAYOUTS, write_miniature

__all__ = ["LAYOUTS", "write_miniature"]
