// Exact k-nearest mean distance on CUDA.
#include "bind_cuda_common.h"
#include "cuda/knn.h"

namespace mmc {
namespace cuda_knn {

Tensor knn_mean_dist2(const Tensor& points, int64_t k) {
  const Call call("knn_mean_dist2", points);
  const Tensor p = points.contiguous();
  check_float32(call, {&p});
  const int64_t n = p.size(0);
  TORCH_CHECK_VALUE(n < (int64_t(1) << 31), call.op, ": more than 2^31 - 1 points in one call");
  TORCH_CHECK_VALUE(k <= kKnnMost, call.op, ": k: expected at most ", kKnnMost, " on CUDA, got ",
                    k);
  const Tensor out = at::empty({n}, p.options());
  if (n == 0) return out;
  const auto ints = p.options().dtype(at::kInt);
  const Tensor bounds = at::full({6}, -1, ints);  // 0xffffffff, then 0 for the upper corner
  bounds.narrow(0, 3, 3).zero_();
  const float* xyz = from(p);
  call(launch_knn_bounds(xyz, n, to(bounds), call));
  const Tensor keys = at::empty({n}, ints), ids = at::empty({n}, ints);
  call(launch_knn_keys(xyz, n, from(bounds), to(keys), to(ids), call));
  const Sorted sorted = sort_by_key(call, keys, ids, 32);
  int64_t n_leaves = 1;
  while (n > n_leaves * kKnnLeaf) n_leaves *= 2;
  const Tensor positions = at::empty({n, 4}, p.options());
  const Tensor boxes = at::empty({2 * n_leaves - 1, 6}, p.options());
  const int32_t* order = from(sorted.values);
  call(launch_knn_tree(xyz, order, n, n_leaves, to(positions), to(boxes), call));
  call(launch_knn_query(from(positions), from(boxes), order, n, n_leaves, k, to(out), call));
  return out;
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) { m.impl("knn_mean_dist2", &knn_mean_dist2); }

}  // namespace cuda_knn
}  // namespace mmc
