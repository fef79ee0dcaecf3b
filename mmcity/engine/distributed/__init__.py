from .collectives import all_to_all_rows, exchange_strips, gather_rows
from .fully_shard_strategy import FullyShardStrategy
from .process_group import LAUNCHERS, adapt_config_to_cpu, init_cpu_process_group, setup_distributed
from .replicated_scene import ReplicatedScene, average_gradients, follow_first_rank
from .shard_group import ShardGroup, move_rows
from .sharded_scene import ShardedScene
from .work_division import (
    RowDivision,
    divide_rows,
    snap_to_images,
    tasks_of_division,
    tile_rects,
    touched_ranks,
)

__all__ = [
    "FullyShardStrategy",
    "ReplicatedScene",
    "RowDivision",
    "ShardGroup",
    "ShardedScene",
    "all_to_all_rows",
    "exchange_strips",
    "gather_rows",
    "move_rows",
    "average_gradients",
    "follow_first_rank",
    "LAUNCHERS",
    "adapt_config_to_cpu",
    "divide_rows",
    "init_cpu_process_group",
    "setup_distributed",
    "snap_to_images",
    "tasks_of_division",
    "tile_rects",
    "touched_ranks",
]
