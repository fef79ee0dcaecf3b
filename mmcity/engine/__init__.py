"""Hooks, optimisers, loops, sharding and checkpoints around mmengine's runner."""

from . import checkpointing, citygsx, distributed, dynamiccity, hooks, loops, optim, rap

__all__ = [
    "checkpointing",
    "citygsx",
    "distributed",
    "dynamiccity",
    "hooks",
    "loops",
    "optim",
    "rap",
]
