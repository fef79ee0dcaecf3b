"""Adversarial training by however many processes there are, whole and with a restart.

    torchrun --nproc-per-node=2 --module tests.models.rap.processes_worker SCENE MAP OUT

Each process writes ``OUT/RANK.pt``.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.runner import Runner

from mmcity.engine.distributed import average_gradients, init_cpu_process_group, unwrap
from mmcity.engine.rap import ViewSynthesisHook

from .test_training import config


def train(work_dir, scene, scene_map, epochs, resume=None) -> dict:
    """Weights, errors of synthesised views and the budget's plan after a training."""
    budget = dict(type="ValueBudget", monitor=None, floor=0.0, min_observability=0.05)
    cfg = config(scene, scene_map, work_dir, epochs, budget=budget, max_attempts=3)
    cfg.experiment_name = f"{work_dir.name}_{epochs}"
    cfg.train_dataloader.batch_size = 1
    cfg.model.channels_last = True
    cfg.model_wrapper_cfg = dict(type="mmcity.ReplicatedModel")
    cfg.launcher = "pytorch"
    cfg.env_cfg = dict(dist_cfg=dict(backend="gloo"))
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.resume, cfg.load_from = resume is not None, resume
    runner = Runner.from_cfg(cfg)
    runner.train()
    model = unwrap(runner.model)
    (hook,) = (h for h in runner.hooks if isinstance(h, ViewSynthesisHook))
    return dict(
        parameters={name: p.detach() for name, p in model.named_parameters()},
        errors=model.views.errors,
        sources=hook.budget.plan(9).sources,
    )


def mean_gradients(rank: int) -> list:
    """Gradients of 1 and 2 and of none and 4, averaged; one of them lies channels last."""
    first, second, third = (torch.nn.Parameter(torch.zeros(2, 3, 2, 2)) for _ in range(3))
    grad = torch.full((2, 3, 2, 2), rank + 1.0)
    first.grad = grad.contiguous(memory_format=torch.channels_last)
    if rank == 1:
        second.grad = torch.full((2, 3, 2, 2), 4.0)
    average_gradients(torch.optim.SGD([first, second, third], lr=1.0))
    return [None if p.grad is None else p.grad.unique().tolist() for p in (first, second, third)]


def main() -> None:
    scene, scene_map, out = map(Path, sys.argv[1:])
    init_cpu_process_group("pytorch")
    whole = train(out / "whole", scene, scene_map, 2)
    train(out / "cut", scene, scene_map, 1)
    resumed = train(out / "cut", scene, scene_map, 2, resume=str(out / "cut" / "epoch_1.pth"))
    rank = dist.get_rank()
    results = dict(whole=whole, resumed=resumed, gradients=mean_gradients(rank))
    torch.save(results, out / f"{rank}.pt")


if __name__ == "__main__":
    main()
