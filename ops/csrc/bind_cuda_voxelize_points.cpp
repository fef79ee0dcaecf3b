// Points to voxels on CUDA. Results do not depend on timing.
#include <cmath>

#include "bind_cuda_common.h"
#include "cuda/voxelize_points.h"

namespace mmc {
namespace cuda_voxelize_points {

template <typename T>
PointGrid<T> point_grid(at::ArrayRef<double> size, at::ArrayRef<double> range) {
  PointGrid<T> g;
  for (int d = 0; d < 3; ++d) {
    g.lo[d] = static_cast<T>(range[d]);
    g.size[d] = static_cast<T>(size[d]);
    g.dims[d] = static_cast<int32_t>(std::lround((range[3 + d] - range[d]) / size[d]));
  }
  return g;
}

Tensor voxelize_dynamic(const Tensor& points, at::ArrayRef<double> size,
                        at::ArrayRef<double> range) {
  const Call call("voxelize_dynamic", points);
  const Tensor p = points.contiguous();
  check_float32(call, {&p});
  const Tensor coors = at::empty({p.size(0), 3}, p.options().dtype(at::kInt));
  call(launch_point_cells(from(p), p.size(0), p.size(1), point_grid<float>(size, range), to(coors),
                          call));
  return coors;
}

// Points sorted by cell, and where the run of each cell starts.
struct Runs {
  Sorted sorted;
  Tensor heads, starts;
};

Runs find_runs(const Call& call, const Tensor& coors, const CellExtent& extent) {
  const auto longs = coors.options().dtype(at::kLong);
  const int64_t n = coors.size(0);
  const Tensor keys = at::empty({n}, longs), ids = at::empty({n}, longs);
  call(launch_cell_keys(from(coors), n, static_cast<int32_t>(coors.size(1)), extent, to(keys),
                        to(ids), call));
  Runs runs;
  runs.sorted = sort_by_key(call, keys, ids, bits_of(extent.cells + 1));
  runs.heads = at::empty({n}, coors.options().dtype(at::kInt));
  call(launch_run_heads(from(runs.sorted.keys), n, extent.cells, to(runs.heads), call));
  runs.starts = runs.heads.nonzero().reshape({-1});
  return runs;
}

using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Four voxelize_hard(const Tensor& points, at::ArrayRef<double> size, at::ArrayRef<double> range,
                   int64_t max_points, int64_t max_voxels) {
  const Call call("voxelize_hard", points);
  const Tensor p = points.contiguous(), cells = voxelize_dynamic(p, size, range);
  const PointGrid<double> grid = point_grid<double>(size, range);
  CellExtent extent{{grid.dims[2], grid.dims[1], grid.dims[0], 1}, 1};
  for (const int64_t s : extent.size)
    TORCH_CHECK_VALUE(!__builtin_mul_overflow(extent.cells, s, &extent.cells),
                      "point_cloud_range: the grid has more than 2^63 voxels");
  const Runs runs = find_runs(call, cells, extent);
  const Tensor first = runs.sorted.values.index_select(0, runs.starts);
  const int64_t m = std::min(max_voxels, first.numel());
  const Tensor chosen = std::get<1>(first.sort()).narrow(0, 0, m);
  const auto ints = p.options().dtype(at::kInt), longs = p.options().dtype(at::kLong);
  const Tensor voxels = at::empty({m, max_points, p.size(1)}, p.options());
  const Tensor num = at::empty({m}, ints), point_ids = at::empty({m, max_points}, longs);
  const HardVoxels in{from(p), from(runs.sorted.keys), from(runs.sorted.values),
                      from(runs.starts), from(chosen), p.size(0), p.size(1), runs.starts.numel(),
                      m, max_points, extent.cells};
  call(launch_fill_voxels(in, to(voxels), to(num), to(point_ids), call));
  const Tensor coors = cells.index_select(0, first.index_select(0, chosen));
  return {voxels, coors, num, point_ids};
}

Four group_voxels(const Tensor& coors) {
  const Call call("group_voxels", coors);
  const Tensor c = coors.contiguous();
  const int64_t n = c.size(0), axes = c.size(1);
  const auto longs = c.options().dtype(at::kLong);
  CellExtent extent{{1, 1, 1, 1}, 1};
  if (n > 0) {
    const Tensor kept = c.ge(0).all(1, true);
    const auto most = read_numbers(call, c.mul(kept).amax(0));
    for (int64_t d = 0; d < axes; ++d) {
      extent.size[d] = most[d] + 1;
      TORCH_CHECK_VALUE(!__builtin_mul_overflow(extent.cells, extent.size[d], &extent.cells),
                        "coors: the grid they span has more than 2^63 voxels");
    }
  }
  const Runs runs = find_runs(call, c, extent);
  const int64_t m = runs.starts.numel();
  // Dropped rows are sorted behind all others.
  const int64_t k = n > 0 ? read_numbers(call, runs.sorted.keys.lt(extent.cells).sum())[0] : 0;
  const Tensor order = runs.sorted.values.narrow(0, 0, k).clone();
  const Tensor voxel = runs.heads.narrow(0, 0, k).cumsum(0, at::kLong).sub(1).to(at::kInt);
  const Tensor point2voxel = at::full({n}, -1, c.options()).scatter(0, order, voxel);
  const Tensor offsets = at::cat({runs.starts, at::full({1}, k, longs)});
  const Tensor voxels = c.index_select(0, order.index_select(0, runs.starts));
  TORCH_CHECK_VALUE(m < (int64_t(1) << 31), call.op, ": more than 2^31 - 1 voxels");
  return {voxels, point2voxel, order, offsets};
}

std::tuple<Tensor, Tensor> scatter_reduce(const Tensor& feats, const Tensor&, const Tensor& order,
                                          const Tensor& offsets, c10::string_view reduce) {
  const Call call("scatter_reduce_voxels", feats);
  const Tensor f = feats.contiguous(), o = order.contiguous(), s = offsets.contiguous();
  check_float32(call, {&f});
  const int64_t m = s.size(0) - 1, channels = f.size(1);
  const Reduction mode =
      reduce == "max" ? Reduction::kMax : (reduce == "mean" ? Reduction::kMean : Reduction::kSum);
  const Tensor out = at::empty({m, channels}, f.options());
  const Tensor argmax =
      at::empty({mode == Reduction::kMax ? m : 0, channels}, f.options().dtype(at::kLong));
  call(launch_reduce_voxels(from(f), from(o), from(s), m, channels, mode, to(out), to(argmax),
                            call));
  return {out, argmax};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("voxelize_dynamic", &voxelize_dynamic);
  m.impl("voxelize_hard", &voxelize_hard);
  m.impl("group_voxels", &group_voxels);
  m.impl("scatter_reduce_voxels", &scatter_reduce);
}

}  // namespace cuda_voxelize_points
}  // namespace mmc
