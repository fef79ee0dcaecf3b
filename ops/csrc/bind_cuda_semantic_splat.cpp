// Semantic splatting on CUDA. Both directions give the same bits in every run.
#include "bind_cuda_bricks.h"
#include "cuda/semantic_splat.h"

namespace mmc {
namespace cuda_semantic_splat {

using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Sorted sort_points(const Call& call, const Tensor& points, const VoxelGrid<float>& grid) {
  const auto longs = points.options().dtype(at::kLong);
  const int64_t n = points.size(0), cells = kPointBrick * kPointBrick * kPointBrick;
  const Tensor keys = at::empty({n}, longs), ids = at::empty({n}, longs);
  call(launch_point_keys(from(points), n, grid, to(keys), to(ids), call));
  return sort_by_key(call, keys, ids, bits_of(brick_count(grid, kPointBrick) * cells + 1));
}

PointSplat point_splat(const Tensor& points, const Tensor& features, const Sorted& sorted,
                       const BrickTensors& lists, const VoxelGrid<float>& grid,
                       bool probabilistic) {
  return {from(points),
          from(features),
          from(sorted.keys),
          from(sorted.values),
          lists.gaussians.const_data_ptr(),
          from(lists.offsets),
          from(lists.entries),
          grid,
          points.size(0),
          features.size(0),
          features.size(1),
          probabilistic};
}

Four splat_fwd(const Tensor& points, const Tensor& means, const Tensor& precis, const Tensor& amps,
               const Tensor& semantics, const Tensor& radii, at::ArrayRef<double> range,
               at::ArrayRef<double> size, at::IntArrayRef shape, bool probabilistic) {
  const Call call("semantic_splat_fwd", means);
  const Tensor x = points.contiguous(), m = means.contiguous(), p = precis.contiguous();
  const Tensor a = amps.contiguous(), f = semantics.contiguous(), r = radii.contiguous();
  check_float32(call, {&x, &m, &p, &a, &f});
  const int64_t n = m.size(0), channels = f.size(1), n_points = x.size(0);
  const int64_t scalars = probabilistic ? n_points : 0;
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor logits = at::zeros({n_points, channels}, m.options());
  const Tensor complement = at::ones({scalars}, m.options());
  const Tensor density = at::zeros({scalars}, m.options());
  const Tensor mass = at::zeros({scalars}, m.options());
  if (probabilistic && channels > 1) logits.narrow(1, 0, channels - 1).fill_(1.0 / (channels - 1));
  const BrickTensors lists =
      list_bricks(call, m, n, std::max<int64_t>(n, 1), 1, grid, kPointBrick, true,
                  [&](void* gaussians, int32_t* counts) {
                    return launch_cell_gaussians(from(m), from(p), from(a), from(r), n, grid,
                                                 kPointBrick, gaussians, counts, call);
                  });
  const Sorted sorted = sort_points(call, x, grid);
  call(launch_points_fwd(point_splat(x, f, sorted, lists, grid, probabilistic), to(logits),
                         to(complement), to(density), to(mass), call));
  return {logits, complement, density, mass};
}

Four splat_bwd(const Tensor& v_logits, const Tensor& v_complement, const Tensor& v_density,
               const Tensor& points, const Tensor& means, const Tensor& precis, const Tensor& amps,
               const Tensor& semantics, const Tensor& radii, const Tensor& logits,
               const Tensor& complement, const Tensor& mass, at::ArrayRef<double> range,
               at::ArrayRef<double> size, at::IntArrayRef shape, bool probabilistic) {
  const Call call("semantic_splat_bwd", means);
  const Tensor x = points.contiguous(), m = means.contiguous(), p = precis.contiguous();
  const Tensor a = amps.contiguous(), f = semantics.contiguous(), r = radii.contiguous();
  const Tensor gl = v_logits.contiguous(), gc = v_complement.contiguous();
  const Tensor gd = v_density.contiguous(), l = logits.contiguous();
  const Tensor co = complement.contiguous(), ma = mass.contiguous();
  check_float32(call, {&x, &m, &p, &a, &f, &gl, &gc, &gd, &l, &co, &ma});
  const int64_t n = m.size(0);
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor v_means = at::empty(m.sizes(), m.options());
  const Tensor v_precis = at::empty(p.sizes(), p.options());
  const Tensor v_amps = at::empty(a.sizes(), a.options());
  const Tensor v_semantics = at::empty(f.sizes(), f.options());
  const BrickTensors prepared =
      list_bricks(call, m, n, std::max<int64_t>(n, 1), 1, grid, kPointBrick, false,
                  [&](void* gaussians, int32_t* counts) {
                    return launch_cell_gaussians(from(m), from(p), from(a), from(r), n, grid,
                                                 kPointBrick, gaussians, counts, call);
                  });
  const Sorted sorted = sort_points(call, x, grid);
  const Tensor state = at::empty({x.size(0), 4}, x.options());
  const PointGrads io{from(gl), from(gc),  from(gd),    from(l),      from(co),   from(ma),
                      from(p),  to(state), to(v_means), to(v_precis), to(v_amps), to(v_semantics)};
  call(launch_points_bwd(point_splat(x, f, sorted, prepared, grid, probabilistic), io, call));
  return {v_means, v_precis, v_amps, v_semantics};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("semantic_splat_fwd", &splat_fwd);
  m.impl("semantic_splat_bwd", &splat_bwd);
}

}  // namespace cuda_semantic_splat
}  // namespace mmc
