"""Localisation in a city that is mapped tile by tile."""

import os
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmcity.registry import INFERENCERS, TASK_UTILS

from .localizer import Localizer, as_picture
from .localizer_file import load_localizer
from .result import LocalizationResult

_ORDER = {"ok": 2, "low_confidence": 1, "failed": 0}


@INFERENCERS.register_module()
class TiledLocalizer:
    """Choose the tiles that a picture may show, then localise in each.

    Tiles are localisers of their own (map, mapped images, perhaps a pose network) in one world
    frame, such as blocks of a CityGS-X reconstruction. Mapped images of all tiles that look most
    like the query vote for theirs by likeness, so that pose networks see places that they know and
    only the likeliest maps are rendered; a tile that answers ``ok`` ends the search.

    Args:
        tiles: Localisers by name, or files of ``mmcity make-localizer``.
        max_tiles: Tiles that are tried. Defaults to 2.
        votes: Mapped images over all tiles that vote. Defaults to 10.
        retrieval: Config of what finds mapped images that look alike. Defaults to
            ``VLADRetrieval``.
        device: Of tiles that are loaded.

    Raises:
        ValueError: If there is no tile, or one without mapped images.
    """

    def __init__(
        self,
        tiles: Mapping[str, Localizer | str | os.PathLike],
        max_tiles: int = 2,
        votes: int = 10,
        retrieval: dict | None = None,
        device: str | None = None,
    ) -> None:
        if not tiles:
            raise ValueError("expected at least one tile")
        if min(max_tiles, votes) < 1:
            raise ValueError("max_tiles, votes: expected at least 1")
        self.tiles = {
            name: tile if isinstance(tile, Localizer) else load_localizer(tile, device)
            for name, tile in tiles.items()
        }
        bare = [name for name, tile in self.tiles.items() if tile.mapped is None]
        if bare:
            raise ValueError(f"tiles {bare}: expected localisers with mapped images")
        self.max_tiles, self.votes = max_tiles, votes
        self.retrieval = TASK_UTILS.build(retrieval or dict(type="VLADRetrieval"))
        self._owners: list[tuple[str, str]] = []

    def likely_tiles(self, image: np.ndarray | Tensor, exclude: str | None = None) -> list[str]:
        """Names of the tiles that a picture may show, the likeliest first.

        Args:
            image: ``(H, W, 3)`` uint8 or ``(3, H, W)`` in [0, 1].
            exclude: Name of a mapped image that does not vote.
        """
        if not self._owners:
            self._owners = [
                (name, str(image)) for name, tile in self.tiles.items()
                for image in tile.mapped.img_names
            ]  # fmt: skip
            self.retrieval.fit(
                tile.mapped_image(row)
                for tile in self.tiles.values()
                for row in range(len(tile.mapped))
            )
        likeness = self.retrieval.likeness(as_picture(image)).double()
        own = torch.tensor([name != exclude for _, name in self._owners])
        likeness = torch.where(own, likeness, torch.full_like(likeness, -torch.inf))
        voters = likeness.argsort(descending=True, stable=True)[: self.votes].tolist()
        weight: dict[str, float] = {}
        # By rank: likenesses of different descriptors have no common scale.
        for rank, row in enumerate(voters):
            tile = self._owners[row][0]
            weight[tile] = weight.get(tile, 0.0) + 1 / (1 + rank)
        return sorted(weight, key=lambda name: -weight[name])[: self.max_tiles]

    def localize(
        self,
        image: np.ndarray | Tensor,
        K: np.ndarray | None = None,
        distortion: np.ndarray | None = None,
        name: str = "query",
        exclude: str | None = None,
    ) -> LocalizationResult:
        """The best of the likely tiles' results; ``details["tile"]`` names it.

        See :meth:`Localizer.localize` for the arguments.
        """
        begin = time.perf_counter()
        tiles = self.likely_tiles(image, exclude)
        seconds = time.perf_counter() - begin
        results = []
        for tile in tiles:
            result = self.tiles[tile].localize(image, K, distortion, name=name, exclude=exclude)
            result.details["tile"] = tile
            results.append(result)
            if result.status == "ok":
                break
        best = max(results, key=lambda result: (_ORDER[result.status], result.confidence))
        best.details["tiles_tried"] = tiles[: len(results)]
        best.seconds["tiles"] = seconds
        return best

    def __call__(self, images: Sequence[np.ndarray], K: np.ndarray | None = None):
        """Results of several pictures ``(H, W, 3)`` uint8, one after the other."""
        for row, image in enumerate(images):
            yield self.localize(image, K, name=f"image_{row}")
