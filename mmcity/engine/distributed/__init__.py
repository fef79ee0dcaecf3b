from .process_group import LAUNCHERS, adapt_config_to_cpu, init_cpu_process_group, setup_distributed
from .replicated_scene import ReplicatedScene, average_gradients, follow_first_rank

__all__ = [
    "ReplicatedScene",
    "average_gradients",
    "follow_first_rank",
    "LAUNCHERS",
    "adapt_config_to_cpu",
    "init_cpu_process_group",
    "setup_distributed",
]
