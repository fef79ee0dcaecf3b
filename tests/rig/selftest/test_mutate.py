"""Faults are found where they are, drawn again by the same seed, and fit every kernel."""

import pytest

from tests.rig import mutate
from tests.rig.harmless_faults import HARMLESS

KERNEL = """#include "cuda/common.cuh"
namespace mmc {
namespace {

constexpr int kThreads = 32;  // a[0] < b

__global__ void sum_kernel(const float* in, int64_t n, float* out) {
  __shared__ float scratch[kThreads];
  const int64_t i = thread_index();
  if (i >= n) return;
  float total = 0.0f, parts[3];
  for (int k = 0; k < 3; ++k) total += in[3 * i + k];
  scratch[threadIdx.x] = warp_sum(__shfl_sync(kAllLanes, total, 0));
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(out, scratch[0]);
}

}  // namespace

cudaError_t launch(const float* in, int64_t n, float* out) {
  if (n < 1) return cudaSuccess;
  sum_kernel<<<in[0], kThreads>>>(in, n, out);
  return cudaGetLastError();
}

}  // namespace mmc
"""
PLANTED = {
    "missing barrier": ["  ;"],
    "index off by one": [
        "for (int k = 0; k < 3; ++k) total += in[(3 * i + k) + 1];",
        "scratch[(threadIdx.x) + 1] = warp_sum(__shfl_sync(kAllLanes, total, 0));",
        "if (threadIdx.x == 0) atomicAdd(out, scratch[(0) + 1]);",
    ],
    "dropped bound check": ["if (false) return;"],
    "lost term": ["for (int k = 0; k < 3; ++k) ;", "if (threadIdx.x == 0) ;"],
    "wrong mask": ["scratch[threadIdx.x] = warp_sum(__shfl_sync(0x7fffffffu, total, 0));"],
    "unset shared memory": ["  ;"],
    "wrong stride": ["for (int k = 0; k < 3; ++k) total += in[4 * i + k];"],
    "skipped tail": [
        "if (i + 1 >= n) return;",
        "for (int k = 0; k + 1 < 3; ++k) total += in[3 * i + k];",
    ],
}


@pytest.mark.parametrize("kind", mutate.KINDS)
def test_each_kind_changes_one_place_of_device_code(kind):
    lines = KERNEL.splitlines()
    faults = mutate.faults_of("sum", KERNEL)[kind]
    changed = [fault.apply(KERNEL).splitlines()[fault.line - 1] for fault in faults]
    assert [line.strip() for line in changed] == [line.strip() for line in PLANTED[kind]]
    for fault in faults:
        after = fault.apply(KERNEL).splitlines()
        assert [a != b for a, b in zip(after, lines)].count(True) == 1 and len(after) == len(lines)
        assert lines[fault.line - 1].strip() == fault.text


def test_every_kernel_file_gets_two_kinds_of_faults_and_the_same_ones_again():
    sources = mutate.kernel_sources()
    assert set(sources) == set(mutate.TESTS) | set(mutate.LEFT_OUT)
    for file in mutate.TESTS:
        draws = [mutate.draw(seed, file, sources[file]) for seed in range(5)]
        assert all(len({fault.kind for fault in faults}) == 2 for faults in draws)
        assert draws == [mutate.draw(seed, file, sources[file]) for seed in range(5)]
        assert len({fault.key for faults in draws for fault in faults}) > 4


def test_faults_listed_as_harmless_can_still_be_drawn():
    assert not mutate.stale(mutate.kernel_sources())
    assert all(reason and file in mutate.TESTS for (file, *_), reason in HARMLESS.items())
