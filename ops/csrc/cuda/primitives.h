// Sorting and scanning on the device. Each function is called twice: with temp null it only sets
// `bytes`, the size of the temporary memory; then it works with temp of that size.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace mmc {

// Stable sorts by the lowest `bits` bits of the keys; n may exceed 2^31.
cudaError_t sort_pairs(void* temp, size_t& bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream);
cudaError_t sort_pairs(void* temp, size_t& bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int64_t* values, int64_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream);
cudaError_t sort_pairs(void* temp, size_t& bytes, const uint64_t* keys, uint64_t* sorted_keys,
                       const int64_t* values, int64_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream);

// sums[i] = in[0] + ... + in[i - 1], in 64 bits.
cudaError_t exclusive_sum(void* temp, size_t& bytes, const int32_t* in, int64_t* sums, int64_t n,
                          cudaStream_t stream);

}  // namespace mmc
