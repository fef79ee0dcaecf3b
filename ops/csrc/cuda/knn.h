// Launchers of the exact k-nearest mean distance.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

constexpr int64_t kKnnLeaf = 16;
constexpr int64_t kKnnMost = 128;  // neighbours that the kernels keep

// bounds: six ordered keys (morton.h), lower corner 0xffffffff and upper 0 at the start.
cudaError_t launch_knn_bounds(const float* points, int64_t n, uint32_t* bounds,
                              cudaStream_t stream);
// Morton keys; points that are not finite come last.
cudaError_t launch_knn_keys(const float* points, int64_t n, const uint32_t* bounds,
                            uint32_t* keys, int32_t* ids, cudaStream_t stream);
// Tree over leaves of 16 points in Morton order: boxes [2 n_leaves - 1, 6] in heap order.
// sorted [n, 4] holds positions; not finite ones are at infinity.
cudaError_t launch_knn_tree(const float* points, const int32_t* order, int64_t n,
                            int64_t n_leaves, float* sorted, float* boxes, cudaStream_t stream);
cudaError_t launch_knn_query(const float* sorted, const float* boxes, const int32_t* order,
                             int64_t n, int64_t n_leaves, int64_t k, float* out,
                             cudaStream_t stream);

}  // namespace mmc
