"""Scenes on several processes that take the state of the first one."""

from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmcity.engine.distributed import follow_first_rank
from mmcity.models.gaussian_splatting import SplatParameters


def follow(rank, store, out):
    """What a process holds after it followed the first, which has more Gaussians and moments."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    splats = SplatParameters(sh_degree=0)
    torch.manual_seed(rank)
    shapes = {name: getattr(splats, name).shape[1:] for name in splats.NAMES}
    splats.assign(**{name: torch.randn(5 - 2 * rank, *shape) for name, shape in shapes.items()})
    optimizer = torch.optim.Adam(splats.parameters(), lr=0.1 + rank)
    sum(p.square().sum() for p in splats.parameters()).backward()
    optimizer.step()
    strategy = SimpleNamespace(memory=dict(sums=[torch.arange(3.0) + rank], steps=rank))
    strategy.state_dict = lambda: strategy.memory
    strategy.load_state_dict = lambda state: strategy.memory.update(state)
    follow_first_rank(splats, optimizer, strategy)
    held = dict(splats=splats.state_dict(), optimizer=optimizer.state_dict())
    torch.save(dict(held, memory=strategy.memory), f"{out}{rank}")
    dist.destroy_process_group()


def test_all_state_of_the_first_process_is_taken(tmp_path):
    mp.spawn(follow, (str(tmp_path / "store"), str(tmp_path / "rank")), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{rank}") for rank in range(2))
    assert len(first["splats"]["means"]) == 5 and first["memory"]["steps"] == 0
    torch.testing.assert_close(second, first, rtol=0, atol=0)
