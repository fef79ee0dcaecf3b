"""Pure functions behind the metrics."""

from mmcity.models.losses import LPIPS

from .image import colour_correct, mean_squared_error, psnr, ssim
from .normals import normal_errors

__all__ = ["LPIPS", "colour_correct", "mean_squared_error", "normal_errors", "psnr", "ssim"]
