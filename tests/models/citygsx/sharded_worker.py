"""Two training steps, growth and a render of a tiny town by however many processes there are.

    torchrun --nproc-per-node=M sharded_worker.py TOWN OUT [FEW]

With FEW there is one view a step, of two rows of tiles.

Rank 0 writes losses, images, gradients and anchors of all processes, computed in float32 and,
the same again, in float64.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from mmcity.engine import launch
from mmcity.engine.citygsx import ShardedScene
from mmcity.engine.distributed import gather_rows, init_cpu_process_group
from mmcity.models.citygsx import AnchorGrowthStrategy
from mmcity.registry import DATASETS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS

REPO = Path(__file__).resolve().parents[3]


def make(town, few=False):
    """Config, dataset and a model at its first scene."""
    cfg = launch.load_config(REPO / "configs" / "citygsx" / "citygsx_toytown_cpu.py")
    cfg.model.objective.update(
        single_view_weight_from_iter=0,
        dpt_loss_from_iter=0,
        multi_view_weight_from_iter=0,
        multi_view_samples=600,
        multi_view_interval=1,
        # one that looks beyond single pixels, one of the Gaussians
        extra_losses=dict(
            loss_valid_ssim=dict(type="SSIMLoss", loss_weight=0.1),
            loss_opacity=dict(type="OpacityLoss"),
        ),
    )
    cfg.model.update(resolution_schedule=[(0, 3)] if few else None)
    data = cfg.train_dataloader.dataset
    data.update(data_root=str(town), resize=None, multi_view_max_dis=200.0)
    data.update(multi_view_max_angle=60.0, multi_view_min_num=1)
    torch.manual_seed(0)
    dataset = DATASETS.build(data)
    model = MODELS.build(cfg.model)
    cameras = dataset.all_cameras[dataset.is_train]
    points = torch.as_tensor(dataset.points3D.xyz, dtype=torch.float32)
    model.initialize(cameras, points, is_trained=dataset.is_train)
    return cfg, dataset, model


def make_optimizer(cfg, model):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type="GaussianOptimWrapperConstructor",
            optim_wrapper_cfg=dict(optimizer=cfg.optim_wrapper.optimizer),
            paramwise_cfg=cfg.optim_wrapper.paramwise_cfg,
        )
    )
    return constructor(model)


def batch_of(dataset, rows):
    """The same views, neighbours included, on every process."""
    torch.manual_seed(7)
    items = [dataset[row] for row in rows]
    return dict(
        inputs=[item["inputs"]["img"] for item in items],
        data_samples=[item["data_samples"] for item in items],
    )


def everyones(*tables):
    """Rows of all processes behind one another."""
    return [gather_rows(table.detach().reshape(len(table), -1).double()) for table in tables]


def as_type(data, dtype):
    """A batch with its pictures, cameras and priors in ``dtype``."""
    for sample in data["data_samples"]:
        for name in ("camera", "neighbour_camera"):
            sample.set_field(sample.get(name).to(dtype), name)
        sample.set_field(sample.inverse_depth.to(dtype), "inverse_depth")
        sample.set_field(sample.neighbour_image.to(dtype) / 255, "neighbour_image")
    return dict(data, inputs=[picture.to(dtype) for picture in data["inputs"]])


def run(town, dtype, few):
    """What all processes together find, in numbers of one type."""
    cfg, dataset, model = make(town, few)
    model.to(dtype)
    scene = ShardedScene(model)
    scene.keep_own_shard()
    optim_wrapper = make_optimizer(cfg, model)
    anchors, results = model.anchors, {}
    model.keeps_statistics = True
    model.train()
    for step in range(2):
        model.iteration.fill_(1 + 2 * step)
        places = [anchors.positions.detach().clone(), anchors.levels.clone()]
        rows = [step] if few else [step, step + 3]
        data = model.data_preprocessor(batch_of(dataset, rows), True)
        data = as_type(data, dtype)
        own, shown = scene.loss(data["inputs"], data["data_samples"])
        own.backward()
        scene.reduce_gradients()
        results["least_rows"] = min(len(tasks) for tasks in scene.division.tiles)
        results[f"losses{step}"] = {name: float(value) for name, value in shown.items()}
        grads = [getattr(anchors, name).grad for name in anchors.PARAMETERS]
        results[f"gradients{step}"] = everyones(*places, *grads)
        mlps = {n: p.grad.clone() for n, p in model.decoder.named_parameters()}
        results[f"mlp_gradients{step}"] = mlps
        model.record_statistics()
        optim_wrapper.optimizer.step()
        optim_wrapper.optimizer.zero_grad()
        results[f"per_rank{step}"] = gather_rows(torch.tensor([len(anchors)]))
    results["before"] = scene.count_anchors()
    strategy = AnchorGrowthStrategy(
        start=0, success=0.01, interval=2, grad_threshold=2e-5, max_anchors=results["before"] + 500
    )
    optimizer = optim_wrapper.optimizer
    results["done"] = scene.grow(strategy, optimizer, 1000, 2)
    moments = optimizer.state[anchors.features]["exp_avg"]
    tables = [anchors.positions, anchors.levels, anchors.features, anchors.log_scales]
    results["anchors"] = everyones(*tables, anchors.gradient_count, moments)
    results["counts"] = gather_rows(torch.tensor([len(anchors)]))
    model.eval()
    rank, size = scene.group.rank, scene.group.world_size
    # Each process brings a view; rank 0 keeps its own.
    own = as_type(batch_of(dataset, [rank % 4]), dtype)
    sample = scene.predict(None, own["data_samples"])[0]
    results["image"], results["depth"] = sample.pred_image, sample.pred_depth
    results["world_size"] = size
    return results


def main(town, out, few=False):
    torch.set_num_threads(1)
    is_shared = int(os.environ.get("WORLD_SIZE", 1)) > 1
    if is_shared:
        init_cpu_process_group("pytorch")
    results = {str(dtype): run(town, dtype, few) for dtype in (torch.float32, torch.float64)}
    if not is_shared or dist.get_rank() == 0:
        torch.save(results, out)
    if is_shared:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
