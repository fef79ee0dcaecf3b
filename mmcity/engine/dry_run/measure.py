"""Memory of a training step and of a prediction of a model, counted by running them dry."""

import contextlib
import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _disable_current_modes

from mmcity.engine.launch import find_hook
from mmcity.models.layers import SceneModel, TransformerBlock
from mmcity.registry import MODELS
from mmcity.utils.published_weights import RANDOM_WEIGHTS_VARIABLE

from .batches import Sizes, fill_scene, make_batch, model_type, prepare
from .cuda_autocast import cuda_autocast
from .dry_mode import DryMode, MemoryMeter

__all__ = ["Memory", "Step", "counting", "measure_prediction", "measure_training", "tensors_of"]

#: Steps of a sampler that stand for all of them: they all need the same memory.
_SAMPLER_STEPS = 3
#: Arguments of models that name files of weights.
_FILES = ("init_cfg", "teacher_checkpoint", "text_protos")
#: Prompts of the vocabulary of Occ3D.
_PROMPTS = 21
#: Share of an anchor's Gaussians that are opaque.
_OPAQUE = 0.5


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the time of the most.

    Attributes:
        parameters: Parameters and buffers, frozen ones and averages too.
        gradients: Of the parameters; those that are there at that time, at most.
        optimizer: State of the optimiser.
        activations: All else: inputs, what the backward pass needs, and temporaries.
    """

    parameters: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0

    @property
    def peak(self) -> int:
        """Sum of all."""
        return self.parameters + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Step:
    """A measured step.

    Attributes:
        memory: At its peak.
        trainable: Bytes of the parameters that want gradients.
        own: Bytes of the parameters of the model itself, without buffers and teachers.
        gathered: Those of them that a fully sharded training holds whole at a time.
        traffic: Bytes that operators read and wrote.
        flops: Floating point operations of products and convolutions.
        saved: Bytes of a checkpoint.
    """

    memory: Memory
    trainable: int
    own: int
    gathered: int
    traffic: int
    flops: int
    saved: int


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Tensors that move with a model to a device, each storage once; teachers too."""
    found: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if not is_lazy(tensor):
            found.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    model._apply(note)
    return list(found.values())


def _n_bytes(tensors: Any) -> int:
    return sum(t.untyped_storage().nbytes() for t in tensors)


def _without_weights(cfg: Config) -> dict:
    """Config of the model that reads no file."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            parts = {key: None if key in _FILES else clean(part) for key, part in value.items()}
            if value.get("text_protos") is not None:
                channels = value["feature_head"]["output_dim"]
                parts["text_protos"] = torch.randn(channels, value.get("prompts", _PROMPTS))
            return parts
        if isinstance(value, (list, tuple)):
            return type(value)(clean(part) for part in value)
        return value

    return clean(cfg.model.to_dict() if hasattr(cfg.model, "to_dict") else cfg.model)


def _dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False):
    """Dropout as CUDA has it, with a mask of one byte."""
    return torch.native_dropout(values, p, True)[0] if training and p > 0 else values


_torch_attention = F.scaled_dot_product_attention


def _attention(q: Tensor, k: Tensor, v: Tensor, attn_mask=None, dropout_p=0.0, *args, **kwargs):
    """Attention as CUDA has it, fused also where weights are dropped: no matrix of them is kept."""
    return _torch_attention(q, k, v, attn_mask, 0.0, *args, **kwargs)


#: What a dry run does in another way: values out of bounds would be drawn anew for ever, and
#: losses need not be finite, nor predicted focal lengths positive.
_INSTEAD = {
    "torch.nn.functional.dropout": _dropout,
    "torch.nn.functional.scaled_dot_product_attention": _attention,
    "torch.nn.init._no_grad_trunc_normal_": lambda tensor, *_, **__: tensor,
    "mmcity.structures.cameras.Cameras.check": lambda cameras: None,
    "mmcity.models.losses.finite.read_scalars": lambda values: dict.fromkeys(values, 0.0),
}


@contextlib.contextmanager
def counting(kept: Mapping[int, int]) -> Iterator[tuple[MemoryMeter, str]]:
    """A meter, and the device to run on: the CPU, with shapes alone.

    Args:
        kept: See :class:`DryMode`.
    """
    with contextlib.ExitStack() as stack:
        for name, instead in _INSTEAD.items():
            stack.enter_context(mock.patch(name, instead))
        stack.enter_context(mock.patch.dict(os.environ, {RANDOM_WEIGHTS_VARIABLE: "1"}))
        stack.enter_context(cuda_autocast())
        yield stack.enter_context(DryMode(kept=kept)), "cpu"


def _in_scope() -> contextlib.AbstractContextManager:
    return DefaultScope.overwrite_default_scope("mmcity")


def _build(cfg: Config, device: str, sizes: Sizes, count: int) -> nn.Module:
    with torch.device(device):
        model = MODELS.build(_without_weights(cfg)).to(device)
    if isinstance(model, SceneModel):
        fill_scene(model, count, sizes)
        views = sizes.batch if model.counts_views else 1
        # Late, when all losses take part and pictures have their full size.
        model.iteration.fill_(cfg.get("train_cfg", {}).get("max_iters", 1) * views)
        model.keeps_statistics = "growth" in cfg.get("default_hooks", {})
    with _disable_current_modes():  # it keeps pictures on the host
        prepare(model, sizes)
    return model


def _kept(cfg: Config, sizes: Sizes, count: int, seen: float) -> dict[int, int]:
    """Gaussians or anchors that a view sees; of its Gaussians those that are opaque, of its
    pixels those that are compared between views."""
    visible = int(count * seen)
    if model_type(cfg) != "CityGSX":
        return {count: visible}
    offsets, pixels = cfg.model.get("n_offsets", 10), sizes.width * sizes.height
    samples = (cfg.model.get("objective") or {}).get("multi_view_samples", pixels)
    return {
        pixels: min(samples, pixels),
        visible * offsets: int(visible * offsets * _OPAQUE),
        count: visible,
    }


def _memory(meter: MemoryMeter, models: list[nn.Module | None], optimizers: list) -> Memory:
    states = [
        t for optimizer in optimizers for state in optimizer.state.values()
        for t in state.values() if isinstance(t, Tensor) and t.dim()
    ]  # fmt: skip
    held = sum(_n_bytes(tensors_of(model)) for model in models if model is not None)
    state, gradients = _n_bytes(states), meter.at_peak
    return Memory(held, gradients, state, meter.peak - held - state - gradients)


def _gathered(model: nn.Module) -> int:
    """Bytes of all parameters outside of transformer blocks, and of two blocks."""
    blocks = [m for m in model.modules() if isinstance(m, TransformerBlock)]
    sizes = [_n_bytes(block.parameters()) for block in blocks]
    return _n_bytes(model.parameters()) - sum(sizes) + 2 * max(sizes, default=0)


def measure_prediction(cfg: Config, sizes: Sizes, count: int = 0, seen: float = 1.0) -> Memory:
    """Memory of the prediction of a batch.

    Args:
        cfg: Whole config.
        sizes: Of the batch.
        count: Gaussians or anchors of a scene. Defaults to 0.
        seen: Share of them that one view sees. Defaults to 1.
    """
    with _in_scope(), counting(_kept(cfg, sizes, count, seen)) as (meter, device):
        if "sampler" in cfg.model:
            cfg = copy.deepcopy(cfg)
            cfg.model.sampler.spacing = _SAMPLER_STEPS
        model = _build(cfg, device, sizes, count).eval()
        data = make_batch(cfg, sizes, training=False, device=device)
        meter.reset_peak()
        with torch.no_grad():
            if getattr(model, "vae", True) is None:  # nothing decodes what is drawn
                model(data["inputs"], mode="tensor")
            else:
                model.test_step(data)
        return _memory(meter, [model], [])


def measure_training(cfg: Config, sizes: Sizes, count: int = 0, seen: float = 1.0) -> Step | None:
    """Memory of a training step, the second one: the optimiser has its state.

    None for models without anything to train.

    Args:
        cfg: Whole config, with ``optim_wrapper``.
        sizes: Of the batch.
        count: Gaussians or anchors of a scene. Defaults to 0.
        seen: Share of them that one view sees. Defaults to 1.
    """
    with _in_scope(), counting(_kept(cfg, sizes, count, seen)) as (meter, device):
        model = _build(cfg, device, sizes, count).train()
        if not any(p.requires_grad for p in model.parameters()):
            return None
        wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        optimizers = [each.optimizer for each in wrappers]
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["foreach"] = not group.get("fused")  # as torch chooses on CUDA
        average = copy.deepcopy(model) if find_hook(cfg, "EMAHook") else None
        trained: list[Tensor] = []
        for _ in range(2):
            data = make_batch(cfg, sizes, training=True, device=device)
            meter.reset_peak()
            model.train_step(data, wrapper)
            work = dict(traffic=meter.traffic, flops=meter.flops)
            del data
            if isinstance(model, SceneModel):
                model.take_views()
            if not trained:  # lazy ones have their shape now
                trained = [p for p in model.parameters() if p.requires_grad]
                meter.watch_gradients(trained)
        memory = _memory(meter, [model, average], optimizers)
        saved = _n_bytes(model.state_dict().values()) * (1 + (average is not None))
        own, gathered = _n_bytes(model.parameters()), _gathered(model)
        return Step(
            memory, _n_bytes(trained), own, gathered, saved=saved + memory.optimizer, **work
        )
