"""Memory of models that nobody allocates."""

import gc
import resource

import torch
from torch import nn

from mmcity.engine.dry_run import DryMode, MemoryMeter
from mmcity.engine.dry_run.cuda_autocast import cuda_autocast
from mmcity.engine.dry_run.dry_mode import rounded
from tests.devices import on_the_cpu

pytestmark = on_the_cpu("dry runs take the CPU for the device that they count")
BLOCK = 512


def test_meter_counts_what_an_allocator_would():
    with MemoryMeter() as meter:
        first = torch.zeros(1000)  # 4000 bytes
        second = first.view(10, 100)  # no new memory
        third = second + 1
        assert meter.live == 2 * 4096
        del third
        assert (meter.live, meter.peak) == (4096, 8192)
    assert rounded(1) == BLOCK


def test_large_model_needs_no_memory_and_has_the_peak_of_a_worked_out_sum():
    width, rows = 8192, 16384
    weights, activations = 4 * width * width, 4 * rows * width
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with DryMode() as meter:
        model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(3)))
        x = torch.zeros(rows, width)
        meter.reset_peak()
        loss = model(x).sum()
        # The input and three outputs, of which the last is summed up already; one number.
        assert meter.live == 3 * weights + 3 * activations + BLOCK
        loss.backward()
    assert meter.peak >= 3 * weights + 4 * activations
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < weights


def test_small_tensors_are_computed():
    with DryMode():
        assert (torch.arange(5) * 2).tolist() == [0, 2, 4, 6, 8]


def test_masks_of_a_scene_keep_what_the_caller_says():
    with DryMode(kept={1_000_000: 250_000}):
        mask = torch.rand(1_000_000) > 0.5
        assert len(mask.nonzero()) == 250_000
        assert torch.zeros(1_000_000, 3)[mask].shape == (250_000, 3)


def test_gradients_are_known_at_the_peak():
    with DryMode() as meter:
        layer = nn.Linear(1024, 1024, bias=False)
        meter.watch_gradients(layer.parameters())
        layer(torch.ones(1, 1024)).sum().backward()
        meter.reset_peak()
        torch.zeros(1024)
        assert meter.at_peak == 4 * 1024 * 1024


def test_autocast_of_the_cpu_is_as_wide_as_that_of_cuda():
    x = torch.randn(4, 8, requires_grad=True)
    with cuda_autocast(), torch.autocast("cpu", torch.bfloat16):
        hidden = nn.functional.linear(x, torch.randn(8, 8))
        assert hidden.dtype == torch.bfloat16
        assert nn.functional.layer_norm(hidden, (8,)).dtype == torch.float32
        assert hidden.softmax(-1).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):  # and not for longer
        assert nn.functional.layer_norm(hidden, (8,)).dtype == torch.bfloat16


def test_what_is_changed_in_place_is_freed_at_once():
    gc.collect()
    gc.disable()
    try:
        with DryMode() as meter:
            torch.zeros(1 << 20).relu_()
            assert meter.live == 0
    finally:
        gc.enable()
