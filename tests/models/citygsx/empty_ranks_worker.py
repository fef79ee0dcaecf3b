"""Training steps of tiny scenes by 1 to 6 processes, of which some have nothing to do.

    python empty_ranks_worker.py OUT

Processes are forked, one group after the other. Rank 0 of each writes OUT/N.pt: for every case
the losses, the gradients and the pictures, in float64. A case is a number of rows of tiles, how
they are shared out, and a number of anchors.
"""

import itertools
import math
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from mmcity.engine.citygsx import ShardedScene
from mmcity.engine.distributed import gather_rows, init_cpu_process_group
from mmcity.models.citygsx import CityGSX
from mmcity.structures import Cameras, SceneDataSample

PROCESSES = range(1, 7)
ROWS = range(1, 7)
#: All rows of one view, whole views, and fewer anchors than processes.
CASES = [
    *itertools.product(ROWS, ["rows"], [60]),
    *itertools.product([1, 3], ["views"], [60]),
    *itertools.product([1, 4], ["rows"], [2]),
]
WIDTH, TILE = 32, 16


def make(points: int) -> CityGSX:
    """A scene in front of four cameras, with all losses from the first step on."""
    torch.manual_seed(0)
    objective = dict(
        type="CityGSXObjective",
        scale_loss_from_iter=0,
        single_view_weight_from_iter=0,
        dpt_loss_from_iter=0,
        multi_view_weight_from_iter=0,
        multi_view_samples=200,
    )
    model = CityGSX(8, 3, anchors=dict(default_voxel_size=0.02), objective=objective)
    model.initialize(cameras(6), torch.rand(points, 3) - 0.5)
    model.anchors.features.data.normal_()
    model.iteration.fill_(3)
    return model.double().train()


def cameras(rows: int) -> Cameras:
    """Four side by side, as high as so many rows of tiles."""
    height = TILE * rows - 3
    K = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40.0, height / 2], [0, 0, 1]])
    viewmats = torch.eye(4).repeat(4, 1, 1)
    viewmats[:, 0, 3], viewmats[:, 2, 3] = torch.linspace(-0.2, 0.2, 4), 2.0
    return Cameras(K, viewmats, WIDTH, height).to(torch.float64)


def view(rows: int, number: int, is_training: bool = True):
    """Picture and sample of one camera."""
    generator = torch.Generator().manual_seed(10 * rows + number)
    camera = cameras(rows)
    height = camera[number].one_size()[1]

    def random(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    sample = SceneDataSample(metainfo=dict(img_name=f"{number}.png", camera_index=number))
    sample.set_field(camera[number], "camera")
    if is_training:
        sample.set_field(0.4 + 0.2 * random(height, WIDTH), "inverse_depth")
        sample.set_field(random(3, height, WIDTH), "neighbour_image")
        sample.set_field(camera[(number + 1) % 4], "neighbour_camera")
    return random(3, height, WIDTH), sample


def run(rows: int, division: str, points: int) -> dict:
    """One step and one test view; what all processes together find."""
    model = make(points)
    scene = ShardedScene(model, division)
    scene.keep_own_shard()
    picture, sample = view(rows, 1)
    own, shown = scene.loss([picture], [sample])
    own.backward()
    scene.reduce_gradients()
    anchors = model.anchors
    tables = [anchors.positions.detach(), *(getattr(anchors, n).grad for n in anchors.PARAMETERS)]
    tables = [
        torch.zeros_like(getattr(anchors, name)) if table is None else table
        for name, table in zip(["positions", *anchors.PARAMETERS], tables)
    ]
    tables = [
        gather_rows(table.reshape(len(table), math.prod(table.shape[1:]))) for table in tables
    ]
    order = sorted(range(len(tables[0])), key=lambda row: tables[0][row].tolist())
    found = {
        "losses": {name: float(value) for name, value in shown.items()},
        "gradients": [table[order] for table in tables],
        "networks": {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in model.decoder.named_parameters()
        },
        "ranks_without_rows": sum(not tasks for tasks in scene.division.tiles),
        "ranks_without_anchors": int((gather_rows(torch.tensor([len(anchors)])) == 0).sum()),
    }
    scene.settle(None)
    model.eval()
    sample = view(rows, scene.group.rank % 4, is_training=False)[1]
    found["picture"] = scene.predict(None, [sample])[0].pred_image
    found["gaussians"] = len(scene.to_gaussians())
    return found


def work(out: Path, processes: int, rank: int) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
        init_cpu_process_group("pytorch", timeout_s=60)
    results = {case: run(*case) for case in CASES}
    if rank == 0:
        torch.save(results, out / f"{processes}.pt")
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()


def main(out: str) -> None:
    for processes in PROCESSES:
        os.environ["MASTER_PORT"] = str(20000 + (os.getpid() * 7 + processes) % 20000)
        children = []
        for rank in range(processes):
            child = os.fork()
            if not child:
                work(Path(out), processes, rank)
                os._exit(0)
            children.append(child)
        states = [os.waitpid(child, 0)[1] for child in children]
        if any(states):
            sys.exit(f"{processes} processes: expected all to end well, got {states}")


if __name__ == "__main__":
    main(*sys.argv[1:])
