"""COLMAP scenes with depth priors and neighbouring views."""

import os
from pathlib import Path

import torch
from mmengine.logging import print_log

from mmcity.registry import DATASETS
from mmcity.structures.multi_view import find_neighbours

from .colmap import ColmapDataset, reliable_depth_params
from .depth_scale import fit_depth_params


@DATASETS.register_module()
class CityGSXDataset(ColmapDataset):
    """A COLMAP scene whose training items carry a depth prior and a second view.

    The data sample gets ``inverse_depth`` (H, W), in inverse scene units and 0 where there is
    no usable prior, also where the files hold depth itself. For training it gets
    ``neighbour_image`` (3, H, W) uint8 and ``neighbour_camera``: a view drawn from torch's global
    generator among the neighbours.

    Args:
        data_root (str): Scene folder, see :class:`ColmapDataset`.
        fit_depth (str, optional): How to fit scale and offset of the priors where
            ``depth_params.json`` is missing: ``median``, ``lsq`` or ``ransac``; None refuses.
            Defaults to ``median``.
        use_neighbours (bool): Load a second view with each training view. Defaults to True.
        multi_view_num (int): Largest number of neighbours. Defaults to 8.
        multi_view_max_angle (float): Degrees between their axes. Defaults to 30.
        multi_view_min_dis (float): Least distance of the centres. Defaults to 0.01.
        multi_view_max_dis (float): Largest one, world units. Defaults to 1.5.
        multi_view_min_num (int): A view with fewer neighbours gets none. Defaults to 5.
        **kwargs: See :class:`ColmapDataset`; ``mask_dir`` holds the masks of the priors (not
            of the photographs).

    Attributes:
        neighbours (list[list[int]]): Rows of the split, per row.
    """

    def __init__(
        self,
        data_root: str | os.PathLike,
        *,
        fit_depth: str | None = "median",
        use_neighbours: bool = True,
        multi_view_num: int = 8,
        multi_view_max_angle: float = 30.0,
        multi_view_min_dis: float = 0.01,
        multi_view_max_dis: float = 1.5,
        multi_view_min_num: int = 5,
        **kwargs,
    ) -> None:
        self.fit_depth = fit_depth
        super().__init__(data_root, **kwargs)
        if self.split == "train" and not any("depth_path" in i.extra for i in self.images):
            print_log(f"{self.data_root}: no depth priors; their loss takes no part", "current")
        self.min_neighbours = multi_view_min_num
        self.neighbours: list[list[int]] = [[] for _ in range(len(self))]
        if use_neighbours and self.split == "train":
            self.neighbours = find_neighbours(
                self.cameras,
                multi_view_num,
                multi_view_max_angle,
                multi_view_min_dis,
                multi_view_max_dis,
            )
            enough = sum(len(rows) >= multi_view_min_num for rows in self.neighbours)
            if enough < len(self):
                print_log(
                    f"{self.data_root}: {enough} of {len(self)} training views have at least "
                    f"{multi_view_min_num} neighbours (multi_view_max_dis="
                    f"{multi_view_max_dis} world units); the others take no part in the "
                    "multi-view loss",
                    "current",
                )

    def load_depth_params(
        self, model_folder: Path, depth_folder: Path
    ) -> dict[str, tuple[float, float]]:
        """From ``depth_params.json``, or fitted to the sparse points."""
        if self.fit_depth is None or (model_folder / "depth_params.json").is_file():
            return super().load_depth_params(model_folder, depth_folder)
        rows = fit_depth_params(model_folder, depth_folder, self.fit_depth)
        print_log(f"{depth_folder}: fitted scales of {len(rows)} depth priors", "current")
        return reliable_depth_params(
            {name: (row["scale"], row["offset"]) for name, row in rows.items()}
        )

    def __getitem__(self, index: int) -> dict:
        """See the class."""
        results = super().__getitem__(index)
        inputs, sample = results["inputs"], results["data_samples"]
        prior, mask = inputs.pop("inverse_depth", None), inputs.pop("mask", None)
        depth = inputs.pop("depth", None)
        if depth is not None:  # depth_kind="metric"
            prior = torch.where(depth > 0, 1 / depth, 0.0)
        if mask is not None:
            del sample.gt_mask  # it speaks of the prior alone
            prior = None if prior is None else torch.where(mask, prior, 0.0)
        if prior is not None:
            sample.set_field(prior, "inverse_depth")
        rows = self.neighbours[int(index)]
        if rows and len(rows) >= self.min_neighbours:
            row = rows[int(torch.randint(len(rows), ()))]
            image = torch.from_numpy(self.load(row)["img"]).permute(2, 0, 1).contiguous()
            sample.set_field(image, "neighbour_image")
            sample.set_field(self.cameras[row], "neighbour_camera")
        return results
