"""One scene of anchors on several processes: sharding, exchange of splats, rows of images."""

from .shard_group import ShardGroup, move_rows
from .sharded_scene import ShardedScene
from .work_division import RowDivision, divide_rows, snap_to_images

__all__ = [
    "RowDivision",
    "ShardGroup",
    "ShardedScene",
    "divide_rows",
    "move_rows",
    "snap_to_images",
]
