"""Pictures, films, pages and the viewer."""

from .camera_paths import fly_through
from .color_maps import colorize_depth, colorize_error, colorize_normals, to_uint8
from .contact_sheet import contact_sheet
from .dumped_results import draw_results
from .localization import overlay_halves, plot_error_cdf, plot_trajectories
from .video import LEVELS, write_grey16, write_image, write_video

__all__ = [
    "LEVELS",
    "colorize_depth",
    "colorize_error",
    "colorize_normals",
    "contact_sheet",
    "draw_results",
    "fly_through",
    "overlay_halves",
    "plot_error_cdf",
    "plot_trajectories",
    "to_uint8",
    "write_grey16",
    "write_image",
    "write_video",
]
