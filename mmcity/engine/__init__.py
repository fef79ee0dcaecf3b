from . import checkpointing, distributed, hooks, loops, optim

__all__ = ["checkpointing", "distributed", "hooks", "loops", "optim"]
