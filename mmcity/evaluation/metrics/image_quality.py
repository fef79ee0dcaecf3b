"""Quality of rendered images against photographs."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmcity.evaluation.functional.means import item_means, tell_left_out
from mmcity.models.losses import LPIPS
from mmcity.registry import METRICS

from ..functional.image import colour_correct, psnr, ssim

_AVERAGED = (
    *("psnr", "ssim", "lpips", "psnr_cc", "ssim_cc", "psnr_covered", "coverage"),
    *("psnr_right", "ssim_right", "lpips_right"),
)


@METRICS.register_module()
class ImageQualityMetric(BaseMetric):
    """PSNR, SSIM and, where weights are given, LPIPS; mean over the images of a split.

    The raw numbers compare the render as it is. Beside them stand, under names of their
    own, ``psnr_cc`` and ``ssim_cc`` after one affine colour transform per image fitted to
    the photograph (what is left of an error without exposure and white balance), and
    ``psnr_covered`` over the pixels that training views saw (``coverage`` is their share).
    Renders are clamped to [0, 1].

    Args:
        split: Name of the split, becomes the prefix of the numbers. Defaults to ``test``.
        lpips_weights: File with LPIPS weights, see :class:`LPIPS`. Defaults to None: no
            LPIPS.
        lpips_network: ``alex`` or ``vgg``. Defaults to ``alex``.
        right_half: Also score the right halves alone, as ``psnr_right``, ``ssim_right`` and
            ``lpips_right``; maps whose colours follow a photograph are compared so.
            Defaults to False.
        **options: ``collect_device``, as in mmengine.
    """

    def __init__(
        self,
        split: str = "test",
        lpips_weights: str | None = None,
        lpips_network: str = "alex",
        right_half: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(prefix=split, **options)
        self.right_half = right_half
        self.lpips = None if lpips_weights is None else LPIPS(lpips_weights, lpips_network)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score each sample.

        Reads ``pred_image``, ``gt_image`` and, where there, ``gt_mask`` and ``pred_covered``.
        """
        for sample in data_samples:
            if "gt_image" not in sample:
                raise ValueError(f"{sample.get('img_path')}: expected a photograph, got none")
            name, mask = str(sample.get("img_name", sample.get("img_path"))), sample.get("gt_mask")
            if mask is not None and not bool(mask.any()):
                self.results.append({"name": name, "left_out": "its mask is empty"})
                continue
            scores = self.score(
                sample["pred_image"], sample["gt_image"], mask, sample.get("pred_covered")
            )
            self.results.append({"name": name, **scores})

    @torch.no_grad()
    def score(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        mask: torch.Tensor | None = None,
        covered: torch.Tensor | None = None,
    ) -> dict[str, float]:
        """Numbers of one image.

        Args:
            prediction: (3, H, W) render.
            target: (3, H, W) photograph in [0, 1].
            mask: (H, W) bool, pixels that count in every number. Defaults to all.
            covered: (H, W) bool, pixels seen by training views. Defaults to unknown.
        """
        prediction = prediction.clamp(0, 1)
        corrected = colour_correct(prediction, target, mask)
        scores = {
            "psnr": psnr(prediction, target, mask).item(),
            "ssim": ssim(prediction, target, mask).item(),
            "psnr_cc": psnr(corrected, target, mask).item(),
            "ssim_cc": ssim(corrected, target, mask).item(),
            "height": prediction.shape[-2],
            "width": prediction.shape[-1],
        }
        if covered is not None:
            counted = covered if mask is None else covered & mask
            scores["coverage"] = counted.double().mean().item()
            if bool(counted.any()):
                scores["psnr_covered"] = psnr(prediction, target, counted).item()
        scores.update(self._lpips(prediction, target, "lpips"))
        if self.right_half:
            middle = prediction.shape[-1] // 2
            sides = [image[..., middle:] for image in (prediction, target)]
            kept = None if mask is None else mask[..., middle:]
            scores["psnr_right"] = psnr(*sides, kept).item()
            scores["ssim_right"] = ssim(*sides, kept).item()
            scores.update(self._lpips(*sides, "lpips_right"))
        return scores

    def _lpips(self, prediction: torch.Tensor, target: torch.Tensor, name: str) -> dict:
        if self.lpips is None:
            return {}
        self.lpips.to(prediction.device)
        return {name: self.lpips(prediction[None], target[None]).item()}

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, Any]:
        """Means over the images, their number and size.

        Images whose mask is empty have no error; they are named, and ``n_images`` does not count
        them.
        """
        if not results:
            raise ValueError("split: expected images to score, got none")
        left_out = {r["name"]: r["left_out"] for r in results if "left_out" in r}
        tell_left_out(left_out, len(results), "images")
        total, results = len(results), [r for r in results if "left_out" not in r]
        if not results:
            raise ValueError(f"masks: expected pixels that count, got none in {total} images")
        means: dict[str, Any] = item_means(results, _AVERAGED)
        sizes = sorted({(result["width"], result["height"]) for result in results})
        means["size"] = ", ".join(f"{width}x{height}" for width, height in sizes)
        means["n_images"] = len(results)
        MMLogger.get_current_instance().info(
            f"{self.prefix}: {len(results)} images of {means['size']} pixels, "
            f"PSNR {means['psnr']:.2f} dB"
        )
        return means
