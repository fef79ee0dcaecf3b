// Small helpers that every kernel file shares.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ids.h"

namespace mmc {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Blocks of a one-dimensional launch over n > 0 items.
inline unsigned blocks_for(int64_t n, int threads) {
  return static_cast<unsigned>((n + threads - 1) / threads);
}

__device__ __forceinline__ int64_t thread_index() {
  return int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <typename T>
__device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
  for (int o = kWarp / 2; o > 0; o /= 2) v += __shfl_xor_sync(kAllLanes, v, o);
  return v;
}
template <typename T>
__device__ __forceinline__ T warp_max(T v) {
#pragma unroll
  for (int o = kWarp / 2; o > 0; o /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, v, o);
    v = other > v ? other : v;
  }
  return v;
}

// Sum over the block in a fixed order, valid in thread 0. scratch: one T per warp.
template <typename T>
__device__ __forceinline__ T block_sum(T v, T* scratch) {
  v = warp_sum(v);
  __syncthreads();  // scratch may still be read from the call before
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = v;
  __syncthreads();
  T sum = T(0);
  if (threadIdx.x == 0)
    for (unsigned w = 0; w < (blockDim.x + kWarp - 1) / kWarp; ++w) sum += scratch[w];
  return sum;
}

// First index in [0, n) whose key is not below `key`.
template <typename K>
__device__ __forceinline__ int64_t lower_bound(const K* keys, int64_t n, K key) {
  int64_t lo = 0, hi = n;
  while (lo < hi) {
    const int64_t mid = (lo + hi) / 2;
    if (keys[mid] < key)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

// Reports an id; the first one of a device is kept.
__device__ inline void refuse_id(int64_t* report, IdArgument argument, int64_t place,
                                       int64_t value, int64_t limit) {
  unsigned long long* first = reinterpret_cast<unsigned long long*>(report + kIdArgument);
  if (atomicMax(first, static_cast<unsigned long long>(argument)) != 0) return;
  report[kIdPlace] = place;
  report[kIdValue] = value;
  report[kIdLimit] = limit;
}

// Whether the id at a place of an argument lies in [0, limit).
__device__ __forceinline__ bool id_fits(int64_t* report, IdArgument argument, int64_t place,
                                        int64_t value, int64_t limit) {
  if (static_cast<uint64_t>(value) < static_cast<uint64_t>(limit)) return true;
  refuse_id(report, argument, place, value, limit);
  return false;
}

// Adds four neighbouring, 16-byte aligned numbers; one instruction from Hopper on.
__device__ __forceinline__ void add4(float* target, float a, float b, float c, float d) {
#if __CUDA_ARCH__ >= 900
  atomicAdd(reinterpret_cast<float4*>(target), make_float4(a, b, c, d));
#else
  atomicAdd(target, a);
  atomicAdd(target + 1, b);
  atomicAdd(target + 2, c);
  atomicAdd(target + 3, d);
#endif
}

}  // namespace mmc
