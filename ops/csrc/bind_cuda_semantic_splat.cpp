// Semantic splatting on CUDA. Both directions give the same bits in every run.
#include "bind_cuda_bricks.h"
#include "cuda/semantic_splat.h"

namespace mmc {
namespace cuda_semantic_splat {

using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Sorted sort_points(const char* op, const Tensor& points, const VoxelGrid<float>& grid,
                   cudaStream_t stream) {
  const auto longs = points.options().dtype(at::kLong);
  const int64_t n = points.size(0), cells = kPointBrick * kPointBrick * kPointBrick;
  const Tensor keys = at::empty({n}, longs), ids = at::empty({n}, longs);
  check_launch(launch_point_keys(read_or_null<float>(points), n, grid,
                                 reinterpret_cast<uint64_t*>(keys.mutable_data_ptr<int64_t>()),
                                 ids.mutable_data_ptr<int64_t>(), stream),
               op);
  return sort_by_key(op, keys, ids, bits_of(brick_count(grid, kPointBrick) * cells + 1), stream);
}

PointSplat point_splat(const Tensor& points, const Tensor& features, const Sorted& sorted,
                       const BrickTensors& lists, const VoxelGrid<float>& grid,
                       bool probabilistic) {
  return {read_or_null<float>(points),
          read_or_null<float>(features),
          reinterpret_cast<const uint64_t*>(sorted.keys.const_data_ptr<int64_t>()),
          sorted.values.const_data_ptr<int64_t>(),
          lists.gaussians.const_data_ptr(),
          lists.offsets.defined() ? lists.offsets.const_data_ptr<int64_t>() : nullptr,
          read_or_null<int32_t>(lists.entries),
          grid,
          points.size(0),
          features.size(0),
          features.size(1),
          probabilistic};
}

Four splat_fwd(const Tensor& points, const Tensor& means, const Tensor& precis,
               const Tensor& amps, const Tensor& semantics, const Tensor& radii,
               at::ArrayRef<double> range, at::ArrayRef<double> size, at::IntArrayRef shape,
               bool probabilistic) {
  constexpr const char* op = "semantic_splat_fwd";
  const c10::DeviceGuard guard(means.device());
  const cudaStream_t stream = current_stream(means.device());
  const Tensor x = points.contiguous(), m = means.contiguous(), p = precis.contiguous();
  const Tensor a = amps.contiguous(), f = semantics.contiguous(), r = radii.contiguous();
  check_float32(op, {&x, &m, &p, &a, &f});
  const int64_t n = m.size(0), channels = f.size(1), n_points = x.size(0);
  const int64_t scalars = probabilistic ? n_points : 0;
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor logits = at::zeros({n_points, channels}, m.options());
  const Tensor complement = at::ones({scalars}, m.options());
  const Tensor density = at::zeros({scalars}, m.options());
  const Tensor mass = at::zeros({scalars}, m.options());
  if (probabilistic && channels > 1) logits.narrow(1, 0, channels - 1).fill_(1.0 / (channels - 1));
  const BrickTensors lists = list_bricks(
      op, m, n, std::max<int64_t>(n, 1), 1, grid, kPointBrick, true, stream,
      [&](void* gaussians, int32_t* counts) {
        return launch_cell_gaussians(read_or_null<float>(m), read_or_null<float>(p),
                                     read_or_null<float>(a), read_or_null<int32_t>(r), n, grid,
                                     kPointBrick, gaussians, counts, stream);
      });
  const Sorted sorted = sort_points(op, x, grid, stream);
  check_launch(launch_points_fwd(point_splat(x, f, sorted, lists, grid, probabilistic),
                                 write_or_null<float>(logits), write_or_null<float>(complement),
                                 write_or_null<float>(density), write_or_null<float>(mass),
                                 stream),
               op);
  return {logits, complement, density, mass};
}

Four splat_bwd(const Tensor& v_logits, const Tensor& v_complement, const Tensor& v_density,
               const Tensor& points, const Tensor& means, const Tensor& precis,
               const Tensor& amps, const Tensor& semantics, const Tensor& radii,
               const Tensor& logits, const Tensor& complement, const Tensor& mass,
               at::ArrayRef<double> range, at::ArrayRef<double> size, at::IntArrayRef shape,
               bool probabilistic) {
  constexpr const char* op = "semantic_splat_bwd";
  const c10::DeviceGuard guard(means.device());
  const cudaStream_t stream = current_stream(means.device());
  const Tensor x = points.contiguous(), m = means.contiguous(), p = precis.contiguous();
  const Tensor a = amps.contiguous(), f = semantics.contiguous(), r = radii.contiguous();
  const Tensor gl = v_logits.contiguous(), gc = v_complement.contiguous();
  const Tensor gd = v_density.contiguous(), l = logits.contiguous();
  const Tensor co = complement.contiguous(), ma = mass.contiguous();
  check_float32(op, {&x, &m, &p, &a, &f, &gl, &gc, &gd, &l, &co, &ma});
  const int64_t n = m.size(0);
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor v_means = at::empty(m.sizes(), m.options());
  const Tensor v_precis = at::empty(p.sizes(), p.options());
  const Tensor v_amps = at::empty(a.sizes(), a.options());
  const Tensor v_semantics = at::empty(f.sizes(), f.options());
  const BrickTensors prepared = list_bricks(
      op, m, n, std::max<int64_t>(n, 1), 1, grid, kPointBrick, false, stream,
      [&](void* gaussians, int32_t* counts) {
        return launch_cell_gaussians(read_or_null<float>(m), read_or_null<float>(p),
                                     read_or_null<float>(a), read_or_null<int32_t>(r), n, grid,
                                     kPointBrick, gaussians, counts, stream);
      });
  const Sorted sorted = sort_points(op, x, grid, stream);
  const Tensor state = at::empty({x.size(0), 4}, x.options());
  const PointGrads io{read_or_null<float>(gl),       read_or_null<float>(gc),
                      read_or_null<float>(gd),       read_or_null<float>(l),
                      read_or_null<float>(co),       read_or_null<float>(ma),
                      read_or_null<float>(p),        write_or_null<float>(state),
                      write_or_null<float>(v_means), write_or_null<float>(v_precis),
                      write_or_null<float>(v_amps),  write_or_null<float>(v_semantics)};
  check_launch(launch_points_bwd(point_splat(x, f, sorted, prepared, grid, probabilistic), io,
                                 stream),
               op);
  return {v_means, v_precis, v_amps, v_semantics};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("semantic_splat_fwd", &splat_fwd);
  m.impl("semantic_splat_bwd", &splat_bwd);
}

}  // namespace cuda_semantic_splat
}  // namespace mmc
