"""The smallest project that trains, grows, validates and tests through the toolbox."""

import json
import os
import signal

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mmcity.registry import DATASETS, HOOKS, METRICS, MODELS


@DATASETS.register_module()
class ToyLine(Dataset):
    """Points of y = 2 x + 1; each reading jitters x with numpy's global generator."""

    metainfo = {"classes": ("line",)}

    def __init__(self, length: int = 7, jitter: float = 0.1) -> None:
        self.length = length
        self.jitter = jitter

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        x = index / self.length + self.jitter * np.random.rand()  # noqa: NPY002
        return {"inputs": torch.tensor([x], dtype=torch.float32), "index": index}


@MODELS.register_module()
class ToyScene(BaseModel):
    """y = mean over rows of (slopes x) + bias, with rows that are added while training."""

    def __init__(self, rows: int = 2, hidden: int = 3) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.linspace(-1, 1, rows)[:, None])
        self.bias = nn.Parameter(torch.zeros(1))
        self.head = nn.Linear(hidden, 1)
        self.hidden = hidden

    def forward(self, inputs, index=None, mode: str = "tensor"):
        x = torch.stack(list(inputs))
        y = x * self.slopes.mean() + self.bias
        y = y + 0.01 * self.head(x.expand(-1, self.hidden))
        if mode == "loss":
            noise = 0.05 * torch.randn_like(y)
            return {"loss_fit": (y + noise - 2 * x - 1).square().mean()}
        if mode == "predict":
            return [{"error": float((y - 2 * x - 1).abs().mean())}]
        return y

    def _load_from_state_dict(self, state_dict, prefix, *args):
        saved = state_dict.get(prefix + "slopes")
        if saved is not None:  # in place: the optimiser holds this very parameter
            self.slopes.data = self.slopes.data.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


@HOOKS.register_module()
class ToyGrowthHook(Hook):
    """Adds a random row every few iterations and keeps Adam's state in step."""

    def __init__(self, interval: int = 3) -> None:
        self.interval = interval

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = getattr(runner.model, "module", runner.model)
        slopes = model.slopes
        slopes.data = torch.cat([slopes.data, torch.randn(1, 1)])
        slopes.grad = None
        state = runner.optim_wrapper.optimizer.state[slopes]
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.cat([state[name], torch.zeros(1, 1)])


@HOOKS.register_module()
class ToyStopHook(Hook):
    """Ends the process before an iteration: by an exception, or killed without warning."""

    def __init__(self, at: int = -1, kill: bool = False) -> None:
        self.at = at
        self.kill = kill

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter != self.at:
            return
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyboardInterrupt


@HOOKS.register_module()
class ToyTraceHook(Hook):
    """Writes which samples were drawn and what was lost, one line per iteration."""

    priority = "LOWEST"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        rank = getattr(runner, "rank", 0)
        record = {
            "iter": runner.iter,
            "index": [int(i) for i in data_batch["index"]],
            "loss": outputs["loss"].item().hex(),
        }
        with open(os.path.join(runner.work_dir, f"trace_{rank}.jsonl"), "a") as file:
            file.write(json.dumps(record) + "\n")


@METRICS.register_module()
class ToyError(BaseMetric):
    """Mean absolute error."""

    default_prefix = "toy"

    def process(self, data_batch, data_samples) -> None:
        self.results += [sample["error"] for sample in data_samples]

    def compute_metrics(self, results) -> dict:
        return {"error": float(np.mean(results))}
