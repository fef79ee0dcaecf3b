"""Training one scene of anchors with several processes, as one process would."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmcity.engine.checkpointing import SHARDS, fill_rows, read_rows, scene_tables, write_shard
from mmcity.engine.distributed.collectives import (
    all_reduce,
    broadcast,
    exchange_strips,
    gather_objects,
    gather_rows,
)
from mmcity.engine.distributed.watch import watched
from mmcity.models.citygsx.objective import HALO, Strip
from mmcity.models.citygsx.rendering import Splats, find_planes
from mmcity.models.citygsx.shards import morton_keys
from mmcity.models.layers import Strategy, loss_scaler
from mmcity.models.losses import check_finite
from mmcity.registry import MODEL_WRAPPERS
from mmcity.structures import CAMERA_TYPES, Cameras, Gaussians
from mmcity.utils.checks import check_choice
from mmcity.utils.scalars import constant

from .shard_group import ShardGroup, move_rows
from .splat_exchange import exchange_splats, share_rows
from .work_division import RowDivision


@MODEL_WRAPPERS.register_module()
class ShardedScene(nn.Module):
    """Each process holds a part of the anchors and renders a part of the pictures.

    All processes are given the same views (``sampler=dict(shard=False)``). For every view a
    process decodes and projects its own anchors, sends each splat to those whose rows of tiles
    it touches, composites its own rows and judges them; windows that reach beyond the rows get
    them from their neighbours. Losses, gradients and the anchors that grow are those of one
    process, up to the order of sums.

    Args:
        module: A :class:`mmcity.models.CityGSX`.
        division: ``rows`` shares out rows of tiles by their cost, ``views`` whole pictures.
            Defaults to ``rows``.
        balance: What a row costs: list ``entries`` when the view was last rendered, or
            ``uniform``. Defaults to ``entries``.
        cost_decay: Share of a row's former cost that stays when its view is rendered again.
            Defaults to 0.
        border: Shares of rows that end within so many rows of tiles of a picture's edge end on
            the edge. Defaults to 1.
        checkpoint: ``sharded``: every process writes the rows of its anchors beside the
            checkpoint; ``merged``: one file, which passes through the memory of one process.
            Defaults to ``sharded``.
        max_imbalance: Ranges of anchors are drawn anew when the largest holds this many times
            what the smallest holds. Defaults to 1.1.

    Raises:
        ValueError: If the exposure model looks at more than single pixels.
    """

    #: Views are the same on all processes; the batch is not multiplied by their number.
    shares_views = True

    def __init__(
        self,
        module: nn.Module,
        division: str = "rows",
        balance: str = "entries",
        cost_decay: float = 0.0,
        border: float = 1.0,
        checkpoint: str = "sharded",
        max_imbalance: float = 1.1,
    ) -> None:
        super().__init__()
        if type(module.exposure).__name__ == "BilateralGridExposure":
            raise ValueError(
                "exposure: expected AffineExposure, got BilateralGridExposure, which cannot be cut"
            )
        check_choice("checkpoint", checkpoint, ("sharded", "merged"))
        self.module = module
        self.checkpoint = checkpoint
        self.group = ShardGroup()
        self._is_split = False  # whether the tables are those of this process alone
        self.division = RowDivision(self.group.world_size, division, balance, cost_decay, border)
        self.max_imbalance = max_imbalance

    # ---- anchors

    def _keys(self) -> Tensor:
        anchors = self.module.anchors
        finest = float(anchors.voxel_size) / float(anchors.fork) ** (int(anchors.n_levels) - 1)
        return morton_keys(anchors.positions.detach(), anchors.origin, finest)

    def keep_own_shard(self) -> None:
        """After all processes have made the same scene: keep the part of this one, once."""
        if self._is_split:
            return
        self._is_split = True
        anchors = self.module.anchors
        keep = self.group.split_evenly(self._keys())
        for name in (*anchors.PARAMETERS, *anchors.BUFFERS):
            table = getattr(anchors, name)
            table.data = table.data[keep].clone()
        for tensor in [*self._replicated(), *self._replicated_buffers()]:
            broadcast(tensor.data)

    def grow(
        self, strategy: Strategy, optimizer: torch.optim.Optimizer, iteration: int, batch: int = 1
    ) -> dict[str, int]:
        """Let all processes edit their anchors, which then move to where they belong."""
        done = self.module.grow(strategy, optimizer, iteration, batch, self.group)
        if done:
            self.settle(optimizer)
        return done

    def settle(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Bring anchors to the processes whose range they are in; draw ranges if need be."""
        anchors, keys = self.module.anchors, self._keys()
        if len(self.group.borders) != self.group.world_size - 1:
            self.group.draw_borders(keys)  # after a start from files of other processes
        owners = self.group.owners(keys)
        counts = self.group.sum(torch.bincount(owners, minlength=self.group.world_size))
        if int(counts.max()) > self.max_imbalance * max(int(counts.min()), 1):
            self.group.draw_borders(keys)
            owners = self.group.owners(keys)
        move_rows(anchors, anchors.PARAMETERS, anchors.BUFFERS, optimizer, owners, keys, self.group)

    def count_anchors(self) -> int:
        """Anchors of all processes."""
        return int(self.group.sum(torch.tensor(len(self.module.anchors))))

    def _replicated(self) -> list[nn.Parameter]:
        own = set(map(id, self.module.anchors.parameters()))
        return [p for p in self.module.parameters() if id(p) not in own and p.requires_grad]

    def _replicated_buffers(self) -> list[Tensor]:
        own = set(map(id, self.module.anchors.buffers()))
        return [b for b in self.module.buffers() if id(b) not in own and b.numel()]

    # ---- checkpoints

    def save_scene(self, path: str, optimizer: torch.optim.Optimizer | None) -> dict | None:
        """Write or gather the rows of all processes; all have to call it.

        Returns:
            What goes into the checkpoint at ``path``, None where that is complete by itself.
        """
        size = self.group.world_size
        if size == 1:
            return None
        tables = scene_tables(self.module, optimizer)
        if self.checkpoint == "merged":
            return dict(tables={name: gather_rows(table) for name, table in tables.items()})
        entries = gather_objects(write_shard(Path(path), tables, self.group.rank, size))
        costs = self.division.costs
        index = dict(
            shards=entries,
            borders=self.group.borders.cpu(),
            cost_ids=torch.tensor(list(costs)),
            costs=list(costs.values()),
        )
        return dict(index=index, names=list(tables))

    def load_scene_rows(self, checkpoint: dict, source: str) -> None:
        """Leave in a checkpoint, sharded or merged, the rows of this process."""
        size, rank = self.group.world_size, self.group.rank
        index = checkpoint.pop(SHARDS, None)
        self._is_split = True
        if index is not None:
            rows = read_rows(index["shards"], Path(source).parent, rank, size)
            fill_rows(checkpoint, rows)
            if len(index["shards"]) == size:
                self.group.borders = index["borders"]
                ids = index["cost_ids"].tolist()
                # The runner reads checkpoints to its device; rows are shared out on the host.
                self.division.costs = {i: cost.cpu() for i, cost in zip(ids, index["costs"])}
            else:
                self.group.borders = torch.zeros(0, dtype=torch.long)
        elif size > 1:
            self._take_part(checkpoint)

    def _take_part(self, checkpoint: dict) -> None:
        """Cut the tables of a merged checkpoint down to the range of this process."""
        state = checkpoint["state_dict"]
        positions, anchors = state["anchors.positions"], self.module.anchors
        levels = int(state["anchors.n_levels"])
        finest = float(state["anchors.voxel_size"]) / float(anchors.fork) ** (levels - 1)
        keys = morton_keys(positions, state["anchors.origin"], finest)
        rows = self.group.split_evenly(keys)
        for name in (*anchors.PARAMETERS, *anchors.BUFFERS):
            state[f"anchors.{name}"] = state[f"anchors.{name}"][rows]
        optimizer = checkpoint.get("optimizer", {})
        for group in optimizer.get("param_groups", []):
            if str(group.get("name")).startswith("anchors."):
                moments = optimizer["state"].get(group["params"][0], {})
                for key, value in moments.items():
                    if isinstance(value, Tensor) and value.ndim:
                        moments[key] = value[rows]

    # ---- rendering

    def _draw_own(
        self,
        views: list[Splats],
        cameras: list[Cameras],
        image_ids: list[int | None],
        division: RowDivision,
    ) -> list[dict[str, Tensor]]:
        """Composite the rows of this process, one dict of maps per task."""
        out = []
        for view, first, last in division.tiles[self.group.rank]:
            maps = self.module.draw(views[view], cameras[view], image_ids[view], (first, last))
            division.note(view, maps.pop("work"))
            out.append(maps)
        return out

    # ---- training

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step on the views that all processes are given."""
        with optim_wrapper.optim_context(self.module):
            data = self.module.data_preprocessor(data, True)
            own, shown = self.loss(data["inputs"], data["data_samples"])
        optim_wrapper.backward(optim_wrapper.scale_loss(own))
        scaler = loss_scaler(optim_wrapper)
        if scaler.is_enabled():
            self.module.unscale_views(scaler.scale(torch.ones_like(own)))
        if optim_wrapper.should_update():
            self.reduce_gradients(scaler.is_enabled())
            optim_wrapper.step()
            optim_wrapper.zero_grad()
        return dict(loss=sum(shown.values()), **shown)

    def loss(self, inputs, data_samples) -> tuple[Tensor, dict[str, Tensor]]:
        """This process's part of the loss, and the losses of all processes for the log."""
        model, objective = self.module, self.module.objective
        model.take_views()  # of a step that did not come to growth
        iteration = int(model.iteration)
        geometry = objective.needs_geometry(iteration)
        items = [model.reduce_resolution(*item) for item in zip(inputs, data_samples)]
        pictures, samples = [item[0] for item in items], [item[1] for item in items]
        cameras = [sample.camera for sample in samples]
        ids = [sample.get("camera_index") for sample in samples]
        self.division.divide(ids, cameras)
        views = [model.project_view(c, i, geometry) for c, i in zip(cameras, ids)]
        for view, camera in zip(views, cameras):
            model.remember(view, camera, len(samples))
        arrived = exchange_splats([view["splats"] for view in views], cameras, self.division)
        maps = self._draw_own(arrived, cameras, ids, self.division)
        self.division.share(self.group.sum)
        like = model.anchors.positions
        halo = max(c.one_size()[1] for c in cameras) if objective.judges_whole_pictures else HALO
        strips, nothing = share_rows(maps, cameras, self.division, halo, geometry, like)
        neighbours = self._neighbours(iteration, samples)
        terms: dict[tuple[int, str], Any] = {}
        for number, (picture, sample) in enumerate(zip(pictures, samples)):
            strip, own = strips.get(number, (None, None))
            if strip is None:
                strip, own = self._empty(picture, geometry)
            if geometry:
                own = find_planes(own, sample.camera, strip.top)
            found = model.judge(
                iteration,
                number,
                own,
                picture,
                sample,
                model.shown(views[number]),
                neighbour=neighbours.get(number),
                strip=strip,
                total_of=self.group.sum,
            )
            terms.update({(number, name): term for name, term in found.items()})
        # Every process leads its share back through both exchanges, even if it is nothing.
        nothing = nothing + sum(view.means2d[:0].sum() for view in arrived)
        return self._add_up(terms, nothing, samples)

    def _empty(self, picture: Tensor, geometry: bool) -> tuple[Strip, dict[str, Tensor]]:
        width = picture.shape[2]
        names = dict(rgb=3, alpha=1, **(dict(normals=3, distances=1) if geometry else {}))
        maps = {name: picture.new_zeros(1, 0, width, size) for name, size in names.items()}
        return Strip(0, 0, 0, 0), maps

    @torch.no_grad()
    def _neighbours(self, iteration: int, samples: list) -> dict[int, dict[str, Tensor]]:
        """Whole depth maps of the second views, rendered by all processes together."""
        model = self.module
        if not model.objective.uses_neighbours(iteration):
            return {}
        numbers = [n for n, sample in enumerate(samples) if "neighbour_image" in sample]
        if not numbers:
            return {}
        cameras = [samples[n].neighbour_camera for n in numbers]
        depths = self.render_depths(cameras, [samples[n].get("camera_index") for n in numbers])
        return {n: model.neighbour_maps(samples[n], d) for n, d in zip(numbers, depths)}

    @torch.no_grad()
    def render_depths(self, cameras: list[Cameras], photographs: list[int | None]) -> list[Tensor]:
        """Depth (H, W) of whole views, on every process."""
        division = RowDivision(self.group.world_size, "rows", "uniform")
        division.divide([None] * len(cameras), cameras)
        views = [self.module.project_view(c, p, True) for c, p in zip(cameras, photographs)]
        arrived = exchange_splats([view["splats"] for view in views], cameras, division)
        maps = self._draw_own(arrived, cameras, [None] * len(cameras), division)
        heights = [camera.one_size()[1] for camera in cameras]
        owned = division.pixels(heights)
        everything = [(view, 0, height) for view, height in enumerate(heights)]
        strips = [torch.cat([m["normals"], m["distances"], m["alpha"]], -1)[0] for m in maps]
        like = self.module.anchors.positions
        like = [like.new_zeros(0, camera.one_size()[0], 5) for camera in cameras]
        wanted = [everything] * self.group.world_size
        whole, _ = exchange_strips(strips, owned, wanted, like)
        out = []
        for block, camera in zip(whole, cameras):
            normals, distances, alpha = block[None].split([3, 1, 1], -1)
            planes = find_planes(dict(normals=normals, distances=distances, alpha=alpha), camera)
            out.append(planes["depth"][0, ..., 0])
        return out

    def _add_up(self, terms, own: Tensor, samples) -> tuple[Tensor, dict[str, Tensor]]:
        order = sorted(terms)
        names = [name for _, name in order]
        counts = [torch.as_tensor(terms[key].count).to(own.device) for key in order]
        counts = self.group.sum(torch.stack(counts)).to(own.dtype)
        parts = [terms[key].value(count) for key, count in zip(order, counts)]
        totals = self.group.sum(torch.stack([part.detach() for part in parts]))
        images = [samples[number].get("img_name") for number, _ in order]
        check_finite({f"{i}: {name}": v for i, name, v in zip(images, names, totals)})
        shown: dict[str, Tensor] = {}
        for name, part, total in zip(names, parts, totals):
            own = own + part / len(samples)
            shown[name] = shown.get(name, 0) + total / len(samples)
        if self.module.exposure is not None:
            rows = torch.tensor([sample.camera_index for sample in samples])
            penalty = self.module.exposure.penalty(rows)
            own = own + penalty / self.group.world_size
            shown["loss_exposure"] = penalty.detach()
        return own, shown

    def reduce_gradients(self, may_overflow: bool = False) -> None:
        """Sum the gradients of what every process holds, in one bucket.

        Args:
            may_overflow: Whether gradients of mixed precision can overflow. Those of the anchors
                then do so on all processes if on one, since all leave out that step or none.
                Defaults to False.
        """
        if self.group.world_size == 1:
            return
        parameters = self._replicated()
        flat = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
             for p in parameters]
        )  # fmt: skip
        if may_overflow:
            anchors = self.module.anchors.parameters()
            own = [p.grad for p in anchors if p.grad is not None]
            mark = sum((gradient * 0).sum() for gradient in own)  # 0, or NaN after an overflow
            mark = self.group.sum(torch.as_tensor(mark, device=flat.device))
            for gradient in own:
                gradient += mark
        all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            parameter.grad = part.view_as(parameter).clone()

    # ---- testing

    def val_step(self, data: Any) -> list:
        """Each process brings views of its own; all render them together."""
        data = self.module.data_preprocessor(data, False)
        return self.predict(data["inputs"], data["data_samples"])

    test_step = val_step

    @torch.no_grad()
    def predict(self, inputs, data_samples: list) -> list:
        """As the model's, with the splats of all processes.

        Every process has to call it with the same number of views.
        """
        model, size = self.module, self.group.world_size
        for row, sample in enumerate(data_samples):
            image_id = sample.get("camera_index") if model.exposure is not None else None
            cameras = _everyones(sample.camera)
            views = [model.project_view(camera, model.ape_code) for camera in cameras]
            division = RowDivision(size, "views", "uniform")
            division.divide([None] * size, cameras)
            arrived = exchange_splats([view["splats"] for view in views], cameras, division)
            own = arrived[self.group.rank]
            maps = find_planes(model.draw(own, sample.camera, image_id), sample.camera)
            model.fill_sample(sample, maps, None if inputs is None else inputs[row])
            sample.set_metainfo(dict(n_anchors=self.count_anchors(), n_gaussians=len(own)))
        return data_samples

    def to_gaussians(self, **options) -> Gaussians:
        """The baked scene of all processes; on rank 0, others get their own part."""
        own = self.module.to_gaussians(**options)
        if self.group.world_size == 1:
            return own
        parts = [None] * self.group.world_size if self.group.rank == 0 else None
        with watched("gather_object of to_gaussians"):
            dist.gather_object(own, parts, 0)
        return own if parts is None else Gaussians.cat(parts)

    def forward(self, *args, **kwargs):
        """The model's own forward pass, on the anchors of this process."""
        return self.module(*args, **kwargs)


def _everyones(camera: Cameras) -> list[Cameras]:
    """Camera of each process, in their order."""
    row = [float(value) for value in (*camera.one_size(), CAMERA_TYPES.index(camera.camera_model))]
    poses = torch.cat([camera.Ks.flatten(), camera.viewmats.flatten()]).double()
    rows = gather_rows(torch.cat([constant(row, poses), poses])[None])
    found = []
    for (width, height, kind), row in zip(rows[:, :3].long().tolist(), rows.to(camera.dtype)):
        K, viewmat = row[3:12].view(3, 3), row[12:].view(4, 4)
        found.append(Cameras(K, viewmat, width, height, CAMERA_TYPES[kind], validate=False))
    return found
