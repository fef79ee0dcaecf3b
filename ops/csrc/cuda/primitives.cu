// Radix sorts and scans of CUB. One file, since they take long to compile.
#include "cuda/primitives.h"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

namespace mmc {
namespace {

struct AddWide {
  __host__ __device__ int64_t operator()(int64_t a, int64_t b) const { return a + b; }
};

template <typename Key, typename Value>
cudaError_t sort_any(void* temp, size_t& bytes, const Key* keys, Key* sorted_keys,
                     const Value* values, Value* sorted_values, int64_t n, int bits,
                     cudaStream_t stream) {
  const cudaError_t status = cub::DeviceRadixSort::SortPairs(
      temp, bytes, keys, sorted_keys, values, sorted_values, n, 0, bits > 0 ? bits : 1, stream);
  return status == cudaSuccess ? cudaGetLastError() : status;
}

}  // namespace

cudaError_t sort_pairs(void* temp, size_t& bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream) {
  return sort_any(temp, bytes, keys, sorted_keys, values, sorted_values, n, bits, stream);
}
cudaError_t sort_pairs(void* temp, size_t& bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int64_t* values, int64_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream) {
  return sort_any(temp, bytes, keys, sorted_keys, values, sorted_values, n, bits, stream);
}
cudaError_t sort_pairs(void* temp, size_t& bytes, const uint64_t* keys, uint64_t* sorted_keys,
                       const int64_t* values, int64_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream) {
  return sort_any(temp, bytes, keys, sorted_keys, values, sorted_values, n, bits, stream);
}

cudaError_t exclusive_sum(void* temp, size_t& bytes, const int32_t* in, int64_t* sums, int64_t n,
                          cudaStream_t stream) {
  const cudaError_t status = cub::DeviceScan::ExclusiveScan(temp, bytes, in, sums, AddWide(),
                                                            int64_t(0), n, stream);
  return status == cudaSuccess ? cudaGetLastError() : status;
}

}  // namespace mmc
