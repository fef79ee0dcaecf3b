"""Fully sharded training as a strategy of mmengine's FlexibleRunner, on GPUs and CPUs."""

from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.registry import STRATEGIES
from torch import nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mmcity.models.layers import TransformerBlock


@STRATEGIES.register_module()
class FullyShardStrategy(DDPStrategy):
    """Parameters, gradients and optimiser state are spread over all processes.

    Every transformer block is gathered when it runs, the rest of the model as one group
    (``fully_shard`` of torch). Unlike mmengine's ``FSDPStrategy`` it also runs on CPUs.
    Checkpoints are whole ones, as of a single process; they can be loaded anywhere.

    Args:
        reshard_after_forward: Give gathered parameters back between the forward and the
            backward pass: less memory, more communication. Defaults to True.
        **kwargs: Arguments of mmengine's ``DDPStrategy``.
    """

    def __init__(self, *, reshard_after_forward: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.reshard_after_forward = reshard_after_forward
        self._gathered: dict[str, dict] = {}

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        model = self.convert_model(model.to(get_device()))
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        options = {"mesh": mesh, "reshard_after_forward": self.reshard_after_forward}
        for module in list(model.modules()):
            if isinstance(module, TransformerBlock):
                fully_shard(module, **options)
        fully_shard(model, **options)
        return model

    def save_checkpoint(self, filename: str, *, save_optimizer: bool = True, **kwargs) -> None:
        """Gather on all processes, write on the first one."""
        self._gathered = {"model": self.model_state_dict()}
        if save_optimizer and hasattr(self, "optim_wrapper"):
            self._gathered["optim"] = self.optim_state_dict()
        super().save_checkpoint(filename, save_optimizer=save_optimizer, **kwargs)
        self._gathered = {}

    def model_state_dict(self) -> dict:
        """Whole parameters on the CPU of the first process; empty on the others."""
        if "model" in self._gathered:
            return self._gathered["model"]
        options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return states.get_model_state_dict(self.model, options=options)

    def optim_state_dict(self) -> dict:
        """Whole state of the optimiser, by the names of the parameters."""
        if "optim" in self._gathered:
            return self._gathered["optim"]
        options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return states.get_optimizer_state_dict(
            self.model, self.optim_wrapper.optimizer, options=options
        )

    def load_model_state_dict(self, state_dict: dict, *, strict: bool = False, **kwargs) -> None:
        """Spread whole parameters over the processes."""
        options = states.StateDictOptions(full_state_dict=True, strict=strict)
        states.set_model_state_dict(self.model, state_dict, options=options)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Spread the whole state of the optimiser."""
        options = states.StateDictOptions(full_state_dict=True)
        states.set_optimizer_state_dict(
            self.model, self.optim_wrapper.optimizer, state_dict, options=options
        )
