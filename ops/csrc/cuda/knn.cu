// Exact k-nearest mean distance: points in Morton order, a complete binary tree of boxes over
// leaves of 16 points, one thread per point that visits its own leaf first and then the sibling
// subtrees on the way to the root that may hold nearer points.
#include "cuda/knn.h"

#include "cuda/common.cuh"
#include "math/morton.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxDepth = 40;

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

__device__ __forceinline__ bool finite(const float* p) {
  return isfinite(p[0]) && isfinite(p[1]) && isfinite(p[2]);
}

__global__ void bounds_kernel(const float* points, int64_t n, uint32_t* bounds) {
  __shared__ uint32_t s[6];
  if (threadIdx.x < 6) s[threadIdx.x] = threadIdx.x < 3 ? 0xffffffffu : 0u;
  __syncthreads();
  const int64_t i = thread_index();
  if (i < n && finite(points + 3 * i)) {
    for (int d = 0; d < 3; ++d) {
      const uint32_t key = ordered_bits(__float_as_uint(points[3 * i + d]));
      atomicMin(&s[d], key);
      atomicMax(&s[3 + d], key);
    }
  }
  __syncthreads();
  if (threadIdx.x < 3)
    atomicMin(&bounds[threadIdx.x], s[threadIdx.x]);
  else if (threadIdx.x < 6)
    atomicMax(&bounds[threadIdx.x], s[threadIdx.x]);
}

__global__ void keys_kernel(const float* points, int64_t n, const uint32_t* bounds,
                            uint32_t* keys, int32_t* ids) {
  const int64_t i = thread_index();
  if (i >= n) return;
  float box[6];
  for (int d = 0; d < 6; ++d) box[d] = __uint_as_float(unordered_bits(bounds[d]));
  const float* p = points + 3 * i;
  keys[i] = finite(p) ? morton_key(p, box, box + 3) : 0xffffffffu;
  ids[i] = static_cast<int32_t>(i);
}

__global__ void gather_kernel(const float* points, const int32_t* order, int64_t n,
                              float4* sorted) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const float* p = points + 3 * int64_t(order[i]);
  const float far = infinity();
  sorted[i] = finite(p) ? make_float4(p[0], p[1], p[2], 0.0f) : make_float4(far, far, far, 0.0f);
}

__global__ void leaves_kernel(const float4* sorted, int64_t n, int64_t n_leaves, float* boxes) {
  const int64_t leaf = thread_index();
  if (leaf >= n_leaves) return;
  float* box = boxes + 6 * (n_leaves - 1 + leaf);
  float lo[3], hi[3];
  for (int d = 0; d < 3; ++d) {
    lo[d] = infinity();
    hi[d] = -infinity();
  }
  for (int64_t i = leaf * kKnnLeaf; i < min_(n, (leaf + 1) * kKnnLeaf); ++i) {
    const float4 p = sorted[i];
    if (!(p.x < infinity())) break;  // from here on none is finite
    const float x[3] = {p.x, p.y, p.z};
    for (int d = 0; d < 3; ++d) {
      lo[d] = min_(lo[d], x[d]);
      hi[d] = max_(hi[d], x[d]);
    }
  }
  for (int d = 0; d < 3; ++d) {
    box[d] = lo[d];
    box[3 + d] = hi[d];
  }
}

// Nodes first .. first + count - 1 of one level from their children.
__global__ void level_kernel(float* boxes, int64_t first, int64_t count) {
  const int64_t i = thread_index();
  if (i >= count) return;
  const int64_t node = first + i;
  const float *a = boxes + 6 * (2 * node + 1), *b = a + 6;
  for (int d = 0; d < 3; ++d) {
    boxes[6 * node + d] = min_(a[d], b[d]);
    boxes[6 * node + 3 + d] = max_(a[3 + d], b[3 + d]);
  }
}

// The K smallest distances, ascending.
template <int K>
struct Nearest {
  float d[K];

  __device__ void init() {
#pragma unroll
    for (int j = 0; j < K; ++j) d[j] = infinity();
  }
  __device__ float worst() const { return d[K - 1]; }
  __device__ void insert(float x) {
#pragma unroll
    for (int j = K - 1; j > 0; --j) d[j] = min_(d[j], max_(d[j - 1], x));
    d[0] = min_(d[0], x);
  }
};

template <int K>
__device__ __forceinline__ void visit_leaf(const float4* sorted, int64_t n, int64_t leaf,
                                           const float* q, int64_t skip, Nearest<K>& best) {
  for (int64_t i = leaf * kKnnLeaf; i < min_(n, (leaf + 1) * kKnnLeaf); ++i) {
    const float4 p = sorted[i];
    const float x = p.x - q[0], y = p.y - q[1], z = p.z - q[2];
    const float dist = fmaf(x, x, fmaf(y, y, z * z));
    if (i != skip && dist < best.worst()) best.insert(dist);
  }
}

// K >= k neighbours are kept and the first k used.
template <int K>
__global__ __launch_bounds__(kThreads) void query_kernel(const float4* sorted, const float* boxes,
                                                         const int32_t* order, int64_t n,
                                                         int64_t n_leaves, int k, float* out) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const float4 self = sorted[i];
  if (!(self.x < infinity())) {
    out[order[i]] = __int_as_float(0x7fc00000);
    return;
  }
  const float q[3] = {self.x, self.y, self.z};
  Nearest<K> best;
  best.init();
  const int64_t own = i / kKnnLeaf;
  visit_leaf(sorted, n, own, q, i, best);
  int32_t stack[kMaxDepth];
  for (int64_t node = n_leaves - 1 + own; node > 0; node = (node - 1) / 2) {
    int depth = 0;
    stack[depth++] = static_cast<int32_t>(node & 1 ? node + 1 : node - 1);
    while (depth > 0) {
      const int64_t top = stack[--depth];
      if (!(box_dist2(boxes + 6 * top, q) < best.worst())) continue;
      if (top >= n_leaves - 1) {
        visit_leaf(sorted, n, top - (n_leaves - 1), q, int64_t(-1), best);
        continue;
      }
      const int64_t left = 2 * top + 1;
      const bool left_first =
          box_dist2(boxes + 6 * left, q) <= box_dist2(boxes + 6 * left + 6, q);
      stack[depth++] = static_cast<int32_t>(left_first ? left + 1 : left);
      stack[depth++] = static_cast<int32_t>(left_first ? left : left + 1);
    }
  }
  float sum = 0.0f;
  int found = 0;
#pragma unroll
  for (int j = 0; j < K; ++j) {
    if (j < k && best.d[j] < infinity()) {
      sum += best.d[j];
      ++found;
    }
  }
  out[order[i]] = found ? sum / static_cast<float>(found) : 0.0f;
}

}  // namespace

cudaError_t launch_knn_bounds(const float* points, int64_t n, uint32_t* bounds,
                              cudaStream_t stream) {
  bounds_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(points, n, bounds);
  return cudaGetLastError();
}

cudaError_t launch_knn_keys(const float* points, int64_t n, const uint32_t* bounds,
                            uint32_t* keys, int32_t* ids, cudaStream_t stream) {
  keys_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(points, n, bounds, keys, ids);
  return cudaGetLastError();
}

cudaError_t launch_knn_tree(const float* points, const int32_t* order, int64_t n,
                            int64_t n_leaves, float* sorted, float* boxes, cudaStream_t stream) {
  float4* sorted4 = reinterpret_cast<float4*>(sorted);
  gather_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(points, order, n, sorted4);
  leaves_kernel<<<blocks_for(n_leaves, kThreads), kThreads, 0, stream>>>(sorted4, n, n_leaves,
                                                                         boxes);
  for (int64_t count = n_leaves / 2; count > 0; count /= 2)
    level_kernel<<<blocks_for(count, kThreads), kThreads, 0, stream>>>(boxes, count - 1, count);
  return cudaGetLastError();
}

cudaError_t launch_knn_query(const float* sorted, const float* boxes, const int32_t* order,
                             int64_t n, int64_t n_leaves, int64_t k, float* out,
                             cudaStream_t stream) {
  const unsigned blocks = blocks_for(n, kThreads);
  const float4* p = reinterpret_cast<const float4*>(sorted);
  const int used = static_cast<int>(k);
  if (k <= 3)
    query_kernel<3><<<blocks, kThreads, 0, stream>>>(p, boxes, order, n, n_leaves, used, out);
  else if (k <= 8)
    query_kernel<8><<<blocks, kThreads, 0, stream>>>(p, boxes, order, n, n_leaves, used, out);
  else if (k <= 32)
    query_kernel<32><<<blocks, kThreads, 0, stream>>>(p, boxes, order, n, n_leaves, used, out);
  else
    query_kernel<128><<<blocks, kThreads, 0, stream>>>(p, boxes, order, n, n_leaves, used, out);
  return cudaGetLastError();
}

}  // namespace mmc
