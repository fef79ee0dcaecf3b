"""From voxelised prompt probabilities to occupancy labels, with any vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Vocabulary:
    """Prompts, how they are merged into classes, and the label of each class.

    Args:
        prompts: One word or phrase per prompt P.
        groups: Number of neighbouring prompts that form each class; sums to P.
        labels: Label of each class.
        free_label: Label of empty voxels. Defaults to 17.
        density_threshold: Voxels at most this dense are free. Defaults to 0.04.
        temperature: Divides the similarity of a Gaussian and a prompt. Defaults to 1.0.
        denoise: Drop prompts that win nowhere in the scene. Defaults to True.
        denoise_scale: Sharpness of that test. Defaults to 100.0.
        denoise_threshold: Smallest winning probability of a prompt that stays. Defaults to 0.1.
        class_thresholds: Density thresholds by label, above ``density_threshold``.
    """

    prompts: Sequence[str]
    groups: Sequence[int]
    labels: Sequence[int]
    free_label: int = 17
    density_threshold: float = 0.04
    temperature: float = 1.0
    denoise: bool = True
    denoise_scale: float = 100.0
    denoise_threshold: float = 0.1
    class_thresholds: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(self.groups) != len(self.prompts):
            raise ValueError(
                f"groups: expected a sum of {len(self.prompts)} prompts, got {sum(self.groups)}"
            )
        if len(self.groups) != len(self.labels):
            raise ValueError(
                f"labels: expected {len(self.groups)}, one a group, got {len(self.labels)}"
            )


_PROMPTS = (
    *("barrier", "bicycle", "bus", "car", "construction vehicle", "motorcycle", "person"),
    *("cone", "trailer", "truck", "road", "sidewalk", "terrain", "grass"),
    *("building", "wall", "fence", "pole", "sign", "vegetation", "sky"),
)

#: The published vocabulary: 21 prompts, 16 classes; sky stands for free space, and the labels
#: 0 (others) and 12 (other flat) are never predicted.
OCC3D_VOCABULARY = Vocabulary(
    prompts=_PROMPTS,
    groups=(1,) * 12 + (2, 5, 1, 1),
    labels=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17),
)


def prompt_probabilities(features: Tensor, prototypes: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax over prompts of the dot products of features ``(..., C)`` and ``(C, P)``."""
    return (features @ prototypes / temperature).softmax(-1)


def _kept_prompts(features: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Prompts that some voxel of the sample ``(..., P)`` is sure of, bool ``(P,)``."""
    rows = features.flatten(0, -2)
    touched = rows[(rows != 0).any(-1)]
    strongest = (vocabulary.denoise_scale * touched).softmax(-1)
    if len(touched) < len(rows):
        # Voxels without features are equally sure of all prompts.
        even = torch.full_like(rows[:1], 1.0 / rows.shape[-1])
        strongest = torch.cat([strongest, even])
    return strongest.amax(0) >= vocabulary.denoise_threshold


def _merge(features: Tensor, kept: Tensor | None, vocabulary: Vocabulary) -> Tensor:
    probabilities = features.softmax(-1)
    if kept is not None:
        probabilities = probabilities * kept.to(probabilities.dtype)
    parts = probabilities.split(list(vocabulary.groups), dim=-1)
    return torch.stack([part.amax(-1) for part in parts], dim=-1)


def label_voxels(density: Tensor, features: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Label every voxel; only those that are dense enough are classified at all.

    Args:
        density: ``(B, X, Y, Z, 1)``.
        features: Voxelised prompt probabilities ``(B, X, Y, Z, P)``.
        vocabulary: What the prompts mean.

    Returns:
        int64 ``(B, X, Y, Z)``.
    """
    density = density.squeeze(-1)
    names = torch.tensor(list(vocabulary.labels), device=density.device)
    result = torch.full(density.shape, vocabulary.free_label, device=density.device)
    for one, dense, labels in zip(features, density, result):
        occupied = dense > vocabulary.density_threshold
        kept = _kept_prompts(one, vocabulary) if vocabulary.denoise else None
        found = names[_merge(one[occupied], kept, vocabulary).argmax(-1)]
        for label, threshold in vocabulary.class_thresholds.items():
            found[(found == label) & (dense[occupied] <= threshold)] = vocabulary.free_label
        labels[occupied] = found
    return result
