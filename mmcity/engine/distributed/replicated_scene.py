"""Data-parallel training of models whose parameters change size."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_comm_device, get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmcity.models.layers import Strategy
from mmcity.registry import MODEL_WRAPPERS

from .collectives import all_reduce, broadcast
from .watch import watched


@MODEL_WRAPPERS.register_module(name=["ReplicatedScene", "ReplicatedModel"])
class ReplicatedScene(nn.Module):
    """Every rank holds the whole model and sees other samples; gradients are averaged.

    ``DistributedDataParallel`` lays gradients into buckets of fixed size, which a scene that
    grows breaks, and knows one optimiser. Here the model takes its own step, and the gradients
    of each optimiser are averaged one by one when it steps.

    Args:
        module: The model; it has to start equal on all ranks.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def train_step(self, data, optim_wrapper: OptimWrapper) -> dict[str, torch.Tensor]:
        """The model's own step, which updates with the mean gradients of all ranks."""
        if isinstance(optim_wrapper, OptimWrapperDict):
            wrappers = {name: _MeanGradients(wrapper) for name, wrapper in optim_wrapper.items()}
            return self.module.train_step(data, wrappers)
        return self.module.train_step(data, _MeanGradients(optim_wrapper))

    def grow(
        self, strategy: Strategy, optimizer: torch.optim.Optimizer, iteration: int, batch: int = 1
    ) -> dict[str, int]:
        """Edit the scenes of all ranks alike.

        With the statistics of all views they edit alike anyway; scenes without statistics take
        the edits of the first rank.
        """
        scene, tables = self.module, self.module.statistics
        if get_world_size() > 1 and scene.keeps_statistics and tables:
            before = [table.clone() for table in tables]
            scene.record_statistics()
            for table, old in zip(tables, before):
                added = table - old
                all_reduce(added)
                torch.add(old, added, out=table)
        done = scene.grow(strategy, optimizer, iteration, batch)
        if get_world_size() > 1 and not tables:
            is_edited = torch.tensor(int(any(done.values())))
            all_reduce(is_edited, dist.ReduceOp.MAX)
            if is_edited.item():
                follow_first_rank(scene, optimizer, strategy)
        return done

    def val_step(self, data) -> list:
        """As the model's."""
        return self.module.val_step(data)

    def test_step(self, data) -> list:
        """As the model's."""
        return self.module.test_step(data)

    def forward(self, *args, **kwargs):
        """As the model's."""
        return self.module(*args, **kwargs)


class _MeanGradients:
    """An optimiser wrapper that averages the gradients of all ranks before it steps."""

    def __init__(self, wrapper: OptimWrapper) -> None:
        self._wrapper = wrapper

    def __getattr__(self, name: str):
        return getattr(self._wrapper, name)

    def update_params(self, loss: torch.Tensor) -> None:
        """As the wrapper's."""
        wrapper = self._wrapper
        wrapper.backward(wrapper.scale_loss(loss))
        if wrapper.should_update():
            average_gradients(wrapper.optimizer)
            wrapper.step()
            wrapper.zero_grad()


def average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Replace each gradient by its mean over the ranks, in the order of the optimiser.

    A parameter without a gradient on some rank counts as zero there; one without a
    gradient on every rank stays without.
    """
    world_size = dist.get_world_size()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not parameters:
        return
    has_gradient = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
    all_reduce(has_gradient, dist.ReduceOp.MAX)
    for parameter, somewhere in zip(parameters, has_gradient.tolist()):
        if somewhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            all_reduce(parameter.grad)
            parameter.grad /= world_size


def follow_first_rank(*holders) -> None:
    """Give the holders on every rank the state of those on rank 0.

    Args:
        *holders: Objects with ``state_dict`` and ``load_state_dict``, which may resize.
    """
    is_first = dist.get_rank() == 0
    tensors: list[torch.Tensor] = []
    states = [holder.state_dict() for holder in holders] if is_first else None
    box = [_without_tensors(states, tensors)]
    with watched("broadcast_object_list of follow_first_rank"):
        dist.broadcast_object_list(box, src=0)
    if not is_first:
        states = _with_tensors(box[0], tensors)
    for tensor in tensors:
        broadcast(tensor)
    if not is_first:
        for holder, state in zip(holders, states):
            holder.load_state_dict(state)


@dataclass
class _Place:
    """Stands for a tensor in a state, which goes another way than objects do."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _without_tensors(state: Any, tensors: list[torch.Tensor]) -> Any:
    """A state with places for its tensors, which are listed in their order."""
    if isinstance(state, torch.Tensor):
        tensors.append(state)
        return _Place(tuple(state.shape), state.dtype)
    if isinstance(state, dict):
        return {key: _without_tensors(value, tensors) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_without_tensors(value, tensors) for value in state)
    return state


def _with_tensors(state: Any, tensors: list[torch.Tensor]) -> Any:
    """The inverse of :func:`_without_tensors`, with empty tensors, which are listed."""
    if isinstance(state, _Place):
        tensors.append(torch.empty(state.shape, dtype=state.dtype, device=get_comm_device()))
        return tensors[-1]
    if isinstance(state, dict):
        return {key: _with_tensors(value, tensors) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_with_tensors(value, tensors) for value in state)
    return state
