"""Exchange of projected Gaussians between the processes that share a scene."""

import torch
from torch import Tensor

from mmcity.engine.distributed.collectives import all_to_all_rows, exchange_strips, world_info
from mmcity.models.citygsx.objective import Strip
from mmcity.models.citygsx.rendering import TILE, Splats
from mmcity.structures import Cameras

from .work_division import RowDivision

#: Channels of the maps that are exchanged; the last two only with geometry.
CHANNELS = dict(rgb=3, alpha=1, normals=3, distances=1)


def exchange_splats(
    views: list[Splats], cameras: list[Cameras], division: RowDivision
) -> list[Splats]:
    """Send splats to the processes whose rows they touch.

    Args:
        views: What this process sees, per view.
        cameras: Of the views.
        division: Who renders which rows of them.

    Returns:
        Per view all splats that touch the rows of this process, in the order of the ranks.
    """
    _, size = world_info()
    if size == 1:
        return views
    packed = [view.pack() for view in views]
    columns = torch.cat([columns for columns, _ in packed])
    fixed = torch.cat([fixed for _, fixed in packed])
    starts, total = [], 0
    for view in views:
        starts.append(total)
        total += len(view)
    counts = [[0] * len(views) for _ in range(size)]
    picks = [torch.zeros(0, dtype=torch.long, device=columns.device)]
    for rank, tasks in enumerate(division.tiles):
        for view, first, last in tasks:
            height = cameras[view].one_size()[1]
            rows = _reaching(views[view], first * TILE, min(last * TILE, height))
            counts[rank][view] = len(rows)
            picks.append(rows + starts[view])
    picks = torch.cat(picks)
    received = all_to_all_rows(torch.tensor(counts), [1] * size, [1] * size).tolist()
    sent_sizes, sizes = [sum(row) for row in counts], [sum(row) for row in received]
    chosen = columns[picks]
    if torch.is_grad_enabled() and not chosen.requires_grad:
        chosen.requires_grad_()  # a process that sends nothing goes the way back, too
    columns = all_to_all_rows(chosen, sent_sizes, sizes)
    with torch.no_grad():
        fixed = all_to_all_rows(fixed[picks], sent_sizes, sizes)
    pieces = [count for row in received for count in row]
    columns, fixed = columns.split(pieces), fixed.split(pieces)
    out = []
    for view in range(len(views)):
        mine = range(view, size * len(views), len(views))
        parts = [torch.cat([table[i] for i in mine]) for table in (columns, fixed)]
        out.append(Splats.unpack(*parts))
    return out


def share_rows(
    maps: list[dict[str, Tensor]],
    cameras: list[Cameras],
    division: RowDivision,
    halo: int,
    geometry: bool,
    like: Tensor,
) -> tuple[dict[int, tuple[Strip, dict[str, Tensor]]], Tensor]:
    """Rows around those of this process, from the others.

    Args:
        maps: One dict per task of this process: ``rgb``, ``alpha`` and with geometry
            ``normals`` and ``distances`` (1, h, W, .).
        cameras: Of the views.
        division: Who has rendered which rows of them.
        halo: Rows wanted above and below the own ones.
        geometry: Whether normals and distances are exchanged, too.
        like: Any tensor of the type and device of the maps.

    Returns:
        Per view that this process has rows of: the strip, and maps of it and its halo. And a
        scalar 0 that the loss of every process has to contain.
    """
    owned = division.pixels([camera.one_size()[1] for camera in cameras])
    wanted = []
    for tasks in owned:
        wanted.append([])
        for view, first, last in tasks:
            height = cameras[view].one_size()[1]
            wanted[-1].append((view, max(first - halo, 0), min(last + halo, height)))
    names = tuple(CHANNELS) if geometry else ("rgb", "alpha")
    channels = sum(CHANNELS[name] for name in names)
    strips = [torch.cat([one[name][0] for name in names], -1) for one in maps]
    empty = [like.new_zeros(0, camera.one_size()[0], channels) for camera in cameras]
    rows, nothing = exchange_strips(strips, owned, wanted, empty)
    rank, _ = world_info()
    out = {}
    for (view, first, last), (_, top, bottom), block in zip(owned[rank], wanted[rank], rows):
        parts = block[None].split([CHANNELS[name] for name in names], -1)
        out[view] = Strip(first, last, top, bottom), dict(zip(names, parts))
    return out, nothing


def _reaching(splats: Splats, first: int, last: int) -> Tensor:
    """Rows of splats whose box reaches pixel rows ``first .. last - 1``."""
    y, radius = splats.means2d.detach()[:, 1], splats.radii[:, 1].to(splats.depths)
    # A pixel of slack makes up for rounding; tiles beyond are cut off on arrival.
    inside = (y + radius + 1 >= first) & (y - radius - 1 <= last)
    return inside.nonzero()[:, 0]
