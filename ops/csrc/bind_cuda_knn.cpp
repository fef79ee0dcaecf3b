// Exact k-nearest mean distance on CUDA.
#include "bind_cuda_common.h"
#include "cuda/knn.h"

namespace mmc {
namespace cuda_knn {

Tensor knn_mean_dist2(const Tensor& points, int64_t k) {
  constexpr const char* op = "knn_mean_dist2";
  const c10::DeviceGuard guard(points.device());
  const cudaStream_t stream = current_stream(points.device());
  const Tensor p = points.contiguous();
  check_float32(op, {&p});
  const int64_t n = p.size(0);
  TORCH_CHECK_VALUE(n < (int64_t(1) << 31), op, ": more than 2^31 - 1 points in one call");
  TORCH_CHECK_VALUE(k <= kKnnMost, op, ": k: expected at most ", kKnnMost, " on CUDA, got ", k);
  const Tensor out = at::empty({n}, p.options());
  if (n == 0) return out;
  const auto ints = p.options().dtype(at::kInt);
  const Tensor bounds = at::full({6}, -1, ints);  // 0xffffffff, then 0 for the upper corner
  bounds.narrow(0, 3, 3).zero_();
  const auto keys_of = [](const Tensor& t) {
    return reinterpret_cast<uint32_t*>(t.mutable_data_ptr<int32_t>());
  };
  const float* xyz = p.const_data_ptr<float>();
  check_launch(launch_knn_bounds(xyz, n, keys_of(bounds), stream), op);
  const Tensor keys = at::empty({n}, ints), ids = at::empty({n}, ints);
  check_launch(launch_knn_keys(xyz, n, keys_of(bounds), keys_of(keys),
                               ids.mutable_data_ptr<int32_t>(), stream),
               op);
  const Sorted sorted = sort_by_key(op, keys, ids, 32, stream);
  int64_t n_leaves = 1;
  while (n > n_leaves * kKnnLeaf) n_leaves *= 2;
  const Tensor positions = at::empty({n, 4}, p.options());
  const Tensor boxes = at::empty({2 * n_leaves - 1, 6}, p.options());
  const int32_t* order = sorted.values.const_data_ptr<int32_t>();
  check_launch(launch_knn_tree(xyz, order, n, n_leaves, positions.mutable_data_ptr<float>(),
                               boxes.mutable_data_ptr<float>(), stream),
               op);
  check_launch(launch_knn_query(positions.const_data_ptr<float>(), boxes.const_data_ptr<float>(),
                                order, n, n_leaves, k, out.mutable_data_ptr<float>(), stream),
               op);
  return out;
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) { m.impl("knn_mean_dist2", &knn_mean_dist2); }

}  // namespace cuda_knn
}  // namespace mmc
