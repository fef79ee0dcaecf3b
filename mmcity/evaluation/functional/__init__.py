from .image import colour_correct, mean_squared_error, psnr, ssim
from .lpips import LPIPS

__all__ = ["LPIPS", "colour_correct", "mean_squared_error", "psnr", "ssim"]
