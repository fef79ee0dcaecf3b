"""Masks of the depth priors that neighbouring views contradict."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from mmcity.structures.multi_view import consistent_depth, find_neighbours
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import atomic_path
from mmcity.utils.made_from import keep_made_alike
from mmcity.utils.picture_names import output_names
from mmcity.utils.torch_files import tensors_digest

from .citygsx import CityGSXDataset

#: Bounds the memory of depths; neighbours come close after one another.
_MOST_KNOWN = 64


@dataclass
class DepthMasks:
    """Masks that the filter has written.

    Attributes:
        folder: Of the masks.
        written: Number of masks; those that were there already do not count.
        kept: Share of their pixels that are valid.
        lonely: Number of views without neighbours.
    """

    folder: Path
    written: int
    kept: float
    lonely: int

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.written} masks written, {self.kept:.1%} kept, "
            f"{self.lonely} without neighbours"
        )


class _Depths:
    """Depth of each training view by row, infinite where there is no prior."""

    def __init__(self, dataset: CityGSXDataset) -> None:
        self.dataset, self.known = dataset, {}
        self.failures = ItemFailures("views")

    def can_read(self, row: int) -> bool:
        """Whether a view has what its depth needs; what fails is named once."""
        name = self.dataset.img_names[row]
        if row not in self.known and name not in self.failures.reasons:
            with self.failures.item(name):
                self[row]
        return name not in self.failures.reasons

    def __getitem__(self, row: int) -> Tensor:  # (H, W)
        if row not in self.known:
            if len(self.known) > _MOST_KNOWN:
                self.known.pop(next(iter(self.known)))
            prior = self.dataset[row]["data_samples"].get("inverse_depth")
            width, height = self.dataset.cameras[row].one_size()
            prior = torch.zeros(height, width) if prior is None else prior
            self.known[row] = torch.where(prior > 0, 1 / prior, torch.inf)
        return self.known[row]


def filter_depth(
    scene: str | os.PathLike,
    out: str = "train/mask",
    *,
    image_dir: str = "auto",
    depth_dir: str = "auto",
    factor: float = 1.0,
    max_error: float = 1.0,
    num: int = 8,
    max_angle: float = 30.0,
    min_dis: float = 0.01,
    max_dis: float = 1.5,
    keep_unfiltered: bool = False,
) -> DepthMasks:
    """Write one mask (0 or 255) per training image, at the training size.

    Masks of the same priors, cameras and options are left as they are, so an interrupted run
    goes on where it stopped.

    Args:
        scene: Scene folder, see :class:`CityGSXDataset`.
        out: Folder of the masks below it. Defaults to ``train/mask``.
        image_dir: Folder of the pictures. Defaults to ``auto``.
        depth_dir: Folder of the inverse depths. Defaults to ``auto``.
        factor: Divisor of the pictures' size. Defaults to 1.
        max_error: Pixels that a point may be off. Defaults to 1.
        num: Neighbours per view. Defaults to 8.
        max_angle: Degrees between their axes. Defaults to 30.
        min_dis: Least distance of the centres, world units. Defaults to 0.01.
        max_dis: Largest distance, world units. Defaults to 1.5.
        keep_unfiltered: Whether views without neighbours count as valid. Defaults to False.

    Raises:
        UserError: If the folder holds masks that were made otherwise; or if views cannot be
            read, once the masks of the others are written.
    """
    dataset = CityGSXDataset(
        scene,
        split="train",
        image_dir=image_dir,
        depth_dir=depth_dir,
        resize=dict(factor=factor),
        use_neighbours=False,
    )
    neighbours = find_neighbours(dataset.cameras, num, max_angle, min_dis, max_dis)
    depths, shares, folder = _Depths(dataset), [], Path(scene) / out
    names = output_names(dataset.img_names, ".png")
    priors = [image.extra for image in dataset.images]
    scales = [[prior.get(f"depth_{name}") for name in ("scale", "offset")] for prior in priors]
    files = [[prior["depth_path"]] if "depth_path" in prior else [] for prior in priors]
    cameras = {"viewmats": dataset.cameras.viewmats, "Ks": dataset.cameras.Ks}
    keep_made_alike(
        folder,
        {
            "cameras": tensors_digest(cameras),
            "depth_scales": hashlib.sha256(repr(scales).encode()).hexdigest()[:16],
            "factor": factor,
            "max_error": max_error,
            "neighbours": [num, max_angle, min_dis, max_dis],
            "keep_unfiltered": keep_unfiltered,
        },
        {
            names[dataset.img_names[row]]: [f for i in (row, *neighbours[row]) for f in files[i]]
            for row in range(len(dataset))
        },
    )
    for row in track(range(len(dataset)), "Filtering depth priors"):
        path = folder / names[dataset.img_names[row]]
        if path.is_file() or not depths.can_read(row):
            continue
        beside = [other for other in neighbours[row] if depths.can_read(other)]
        if beside:
            mask = consistent_depth(depths, dataset.cameras, row, beside, max_error=max_error)
        else:
            mask = torch.full(depths[row].shape, keep_unfiltered)
        shares.append(float(mask.float().mean()))
        with atomic_path(path) as temporary:
            Image.fromarray((mask * 255).to(torch.uint8).numpy()).save(temporary)
    depths.failures.total = len(dataset)
    depths.failures.check()
    return DepthMasks(
        folder,
        written=len(shares),
        kept=sum(shares) / max(len(shares), 1),
        lonely=sum(not rows for rows in neighbours),
    )
