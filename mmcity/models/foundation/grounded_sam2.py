"""Open-vocabulary label maps: GroundingDINO boxes (arXiv 2303.05499), SAM 2 masks."""

from collections.abc import Sequence

import numpy as np
import torch

from mmcity.utils.images import imagenet_normalized

#: Words of each label 1..17; 1..16 are Occ3D's, 17 is the sky.
SEGMENTATION_WORDS: tuple[tuple[str, ...], ...] = (
    ("barrier", "concrete barrier", "metal barrier", "water barrier"),
    ("bicycle", "bicyclist"),
    ("bus",),
    ("car",),
    ("crane",),
    ("motorcycle", "motorcyclist"),
    ("pedestrian", "adult", "child"),
    ("cone",),
    ("trailer",),
    ("truck",),
    ("road",),
    ("traffic island", "rail track", "lake", "river"),
    ("sidewalk",),
    ("grass", "rolling hill", "soil", "sand", "gravel"),
    ("building", "wall", "guard rail", "fence", "pole", "drainage", "hydrant", "street sign",
     "traffic light"),
    ("tree", "bush"),
    ("sky", "empty"),
)  # fmt: skip


def paint_detections(
    shape: Sequence[int],
    phrases: Sequence[str],
    masks: Sequence[np.ndarray],
    words: Sequence[Sequence[str]] = SEGMENTATION_WORDS,
) -> np.ndarray:
    """Label map of detections; later ones lie over earlier ones.

    Args:
        shape: Height and width.
        phrases: What each detection was found for; one that is no word exactly is left out.
        masks: Bool ``(H, W)`` of each.
        words: Words of each label, from 1. Defaults to the published ones.

    Returns:
        uint8 ``(H, W)``, 0 where nothing was found.
    """
    label_of = {word: label for label, group in enumerate(words, 1) for word in group}
    result = np.zeros(tuple(shape), dtype=np.uint8)
    for phrase, mask in zip(phrases, masks):
        if phrase in label_of:
            result[np.asarray(mask, dtype=bool)] = label_of[phrase]
    return result


class GroundedSAM2:
    """The published pair of models; needs the packages ``groundingdino`` and ``sam2``.

    Args:
        dino_config, dino_weights: Files of GroundingDINO Swin-B.
        sam_config, sam_weights: Name of SAM 2.1's config (``configs/sam2.1/sam2.1_hiera_b+.yaml``)
            and its weights.
        box_threshold, text_threshold: Default to 0.35 and 0.25.
        device: Defaults to ``cpu``.

    Raises:
        ImportError: If a package is missing; says which.
    """

    def __init__(
        self,
        dino_config: str,
        dino_weights: str,
        sam_config: str,
        sam_weights: str,
        box_threshold: float = 0.35,
        text_threshold: float = 0.25,
        device: str = "cpu",
    ) -> None:
        try:
            from groundingdino.util.inference import load_model
            from sam2.build_sam import build_sam2
            from sam2.sam2_image_predictor import SAM2ImagePredictor
        except ImportError as error:
            raise ImportError(
                f"GroundedSAM2: expected the packages 'groundingdino' and 'sam2', got '{error}': "
                "install them from their repositories"
            ) from error
        self.detector = load_model(dino_config, dino_weights, device=device)
        self.predictor = SAM2ImagePredictor(build_sam2(sam_config, sam_weights, device=device))
        self.thresholds = (box_threshold, text_threshold)
        self.device = device
        self.prompt = ". ".join(word for group in SEGMENTATION_WORDS for word in group) + "."

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Label map uint8 ``(H, W)`` of an RGB image uint8 ``(H, W, 3)``."""
        from groundingdino.util.inference import predict

        height, width = image.shape[:2]
        tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        box, text = self.thresholds
        boxes, _, phrases = predict(
            self.detector, imagenet_normalized(tensor), self.prompt, box, text, device=self.device
        )
        if len(boxes) == 0:
            return np.zeros((height, width), dtype=np.uint8)
        self.predictor.set_image(image)
        corners = boxes * boxes.new_tensor([width, height, width, height])
        corners = torch.cat(
            [corners[:, :2] - corners[:, 2:] / 2, corners[:, :2] + corners[:, 2:] / 2], dim=1
        )
        masks, _, _ = self.predictor.predict(box=corners.numpy(), multimask_output=False)
        return paint_detections((height, width), phrases, masks.reshape(-1, height, width) > 0)
