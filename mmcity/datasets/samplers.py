"""Samplers of the next training views."""

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmcity.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class CameraSampler(Sampler):
    """Endless epochs over the views of a scene, each in an order of its own.

    The order follows from seed and position alone: the n-th view is the same whether the run
    came there in one go or was resumed, and no state need be saved. No view occurs twice
    within one batch (over all ranks), provided that ``batch_size`` is that of the dataloader;
    views that fill no whole batch at the end of an epoch are left to the next one.

    Args:
        dataset (Sized): The views.
        batch_size (int): Views per batch of one rank. Defaults to 1.
        shuffle (bool): Defaults to True.
        seed (int, optional): Defaults to one that all ranks agree on.
        shard (bool): Give each rank other views (data parallel). False gives all ranks the
            same views, for models that share out the work within a view. Defaults to True.
        start (int): Batches to leave out at the beginning. Defaults to 0.

    Raises:
        ValueError: If there are fewer views than one batch takes.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int = 1,
        shuffle: bool = True,
        seed: int | None = None,
        shard: bool = True,
        start: int = 0,
    ) -> None:
        rank, world_size = get_dist_info()
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.rank, self.ranks = (rank, world_size) if shard else (0, 1)
        self.start = int(start)
        group = self.batch_size * self.ranks
        if self.batch_size < 1 or len(dataset) < group:
            raise ValueError(
                f"expected at least {group} views for a batch of {self.batch_size} on "
                f"{self.ranks} rank(s), got {len(dataset)}: lower the batch size"
            )
        self.batches_per_epoch = len(dataset) // group

    def batch_at(self, iteration: int) -> list[int]:
        """Views that this rank takes in one iteration."""
        epoch, batch = divmod(iteration, self.batches_per_epoch)
        order = self._order(epoch)
        first = batch * self.batch_size * self.ranks + self.rank
        return order[first : first + self.batch_size * self.ranks : self.ranks].tolist()

    def _order(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(len(self.dataset))
        if getattr(self, "_known_epoch", None) != epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._known_epoch = epoch
            self._known_order = torch.randperm(len(self.dataset), generator=generator)
        return self._known_order

    def __iter__(self) -> Iterator[int]:
        iteration = self.start
        while True:
            yield from self.batch_at(iteration)
            iteration += 1

    def __len__(self) -> int:
        """Views of this rank in one epoch."""
        return self.batches_per_epoch * self.batch_size

    def advance(self, iterations: int) -> None:
        """Begin the next pass so many batches later, without loading what is left out."""
        self.start += int(iterations)

    def set_epoch(self, epoch: int) -> None:
        """Begin the next pass at this epoch."""
        self.start = int(epoch) * self.batches_per_epoch
