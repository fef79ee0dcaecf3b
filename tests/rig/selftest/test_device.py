"""The virtual device raises, waits, counts and computes as a CUDA device does."""

import copy
import io
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import virtual_cuda

from tests.rig.harness import RIG

SAME = "Expected all tensors to be on the same device"


@pytest.fixture
def x():
    return torch.randn(5, 3).cuda()


def test_no_file_hides_a_package_from_processes_that_have_the_device():
    others = [path for path in sys.path if Path(path).resolve() != RIG]
    names = {file.stem for file in RIG.glob("*.py")} - {"__init__", "conftest", "sitecustomize"}
    assert names and not [name for name in sorted(names) if PathFinder.find_spec(name, others)]


def test_scalars_of_the_cpu_mix_with_cuda_tensors_and_others_do_not(x):
    assert x.is_cuda and x.device.index == 0 and (x + torch.tensor(1.0)).is_cuda
    with pytest.raises(RuntimeError, match=SAME):
        x + torch.randn(5, 3)
    with pytest.raises(RuntimeError, match=SAME):
        torch.cat([x, torch.randn(2, 3)])
    with pytest.raises(RuntimeError, match=SAME):
        torch.addmm(torch.tensor(1.0), x, x.T)


def test_what_cuda_lacks_is_refused(x):
    whole = torch.eye(2, device="cuda").long()
    with pytest.raises(NotImplementedError, match="CPU only"):
        torch.histogram(x, 3)
    with pytest.raises(NotImplementedError, match="integers"):
        whole @ whole
    with pytest.raises(TypeError, match="can't convert cuda"):
        x.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device="cuda", generator=torch.Generator())
    with pytest.raises(RuntimeError, match="ordinal"):
        torch.zeros(3, device="cuda:7")


def test_random_numbers_of_the_device_have_their_own_sequence():
    torch.manual_seed(0)
    first, cpu = torch.rand(2, device="cuda"), torch.rand(2)
    torch.cuda.manual_seed(0)
    assert torch.equal(torch.rand(2, device="cuda"), first)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(2), cpu)


def test_waits_are_counted_with_their_lines(x):
    with virtual_cuda.Record(within=("test_device",)) as record:
        x[x > 0] = 0.0  # a fill
        x.mean().sigmoid_()
    assert not record.waits, record.table()
    with virtual_cuda.Record(within=("test_device",)) as record:
        float(x.sum()), x[x > 0], x.cpu(), torch.tensor([1], device="cuda"), x[torch.tensor([0])]
    assert sum(record.waits.values()) == 5, record.table()
    assert all("test_waits_are_counted" in where for _, where in record.waits)


def test_waits_raise_where_they_are_forbidden(x):
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchronizing"):
            x.sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_copy_without_wait_arrives_with_the_next_one():
    pinned = torch.zeros(4).pin_memory()
    pinned.copy_(torch.ones(4, device="cuda"), non_blocking=True)
    assert not torch.equal(pinned, torch.ones(4))
    torch.cuda.synchronize()
    assert torch.equal(pinned, torch.ones(4))


def test_a_network_trains_with_mixed_precision_and_moves_through_a_file():
    layers = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Dropout(0.5)
    net = torch.nn.Sequential(*layers).cuda()
    optimizer, scaler = torch.optim.AdamW(net.parameters()), torch.amp.GradScaler("cuda")
    with torch.autocast("cuda", dtype=torch.float16):
        loss = net(torch.randn(2, 3, 8, 8, device="cuda")).square().mean()
    before = net[0].weight.detach().clone()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(net[0].weight, before)
    file = io.BytesIO()
    torch.save(copy.deepcopy(net).state_dict(), file)
    file.seek(0)
    assert next(iter(torch.load(file, map_location="cuda").values())).is_cuda


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_that_of_the_cpu(dtype):
    q = torch.randn(1, 2, 16, 8, device="cuda", dtype=dtype, requires_grad=True)
    out = F.scaled_dot_product_attention(q, q, q)
    out.float().sum().backward()
    torch.testing.assert_close(out.cpu(), F.scaled_dot_product_attention(*[q.detach().cpu()] * 3))


def test_a_dry_run_counts_memory_that_nobody_has():
    with virtual_cuda.dry_run(), torch.device("cuda"):
        before = torch.cuda.memory_allocated()
        torch.nn.Linear(1 << 14, 1 << 14)(torch.empty(1 << 10, 1 << 14)).sum().backward()
        assert torch.cuda.max_memory_allocated() - before > 2 << 30
