"""Several processes: groups, collectives with gradients, replicated models."""

from .collectives import all_to_all_rows, exchange_strips, gather_rows
from .fully_shard_strategy import FullyShardStrategy
from .process_group import (
    LAUNCHERS,
    adapt_config_to_cpu,
    init_cpu_process_group,
    launched_processes,
    launched_rank,
    setup_distributed,
)
from .replicated_scene import ReplicatedScene, average_gradients, follow_first_rank
from .unwrap import unwrap
from .watch import LostProcessError, lost_processes_told, watched

__all__ = [
    "FullyShardStrategy",
    "LostProcessError",
    "ReplicatedScene",
    "all_to_all_rows",
    "exchange_strips",
    "gather_rows",
    "average_gradients",
    "follow_first_rank",
    "LAUNCHERS",
    "adapt_config_to_cpu",
    "init_cpu_process_group",
    "launched_processes",
    "launched_rank",
    "lost_processes_told",
    "setup_distributed",
    "unwrap",
    "watched",
]
