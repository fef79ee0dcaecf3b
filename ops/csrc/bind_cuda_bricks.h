// Lists of the Gaussians that meet each brick of a grid, for the bindings of the grid operators.
#pragma once
#include "bind_cuda_common.h"
#include "cuda/voxelize_gaussians.h"

namespace mmc {

inline VoxelGrid<float> voxel_grid(at::ArrayRef<double> range, at::ArrayRef<double> size,
                                   at::IntArrayRef shape) {
  VoxelGrid<float> g;
  for (int d = 0; d < 3; ++d) {
    g.lo[d] = static_cast<float>(range[d]);
    g.hi[d] = static_cast<float>(range[3 + d]);
    g.size[d] = static_cast<float>(size[d]);
    g.dims[d] = static_cast<int32_t>(shape[d]);
  }
  return g;
}

inline int64_t brick_count(const VoxelGrid<float>& g, int64_t edge) {
  int64_t n = 1;
  for (int d = 0; d < 3; ++d) n *= (g.dims[d] + edge - 1) / edge;
  return n;
}

struct BrickTensors {
  Tensor gaussians;  // prepared, as bytes
  Tensor offsets, entries;
};

// prepare(gaussians, counts) fills both for n Gaussians. One synchronisation, to size the lists.
template <typename Prepare>
BrickTensors list_bricks(const Call& call, const Tensor& like, int64_t n, int64_t per_sample,
                         int64_t batch, const VoxelGrid<float>& grid, int32_t edge, bool lists,
                         const Prepare& prepare) {
  const auto ints = like.options().dtype(at::kInt), longs = like.options().dtype(at::kLong);
  const int64_t bricks = batch * brick_count(grid, edge);
  TORCH_CHECK_VALUE(n < (int64_t(1) << 31) && bricks < (int64_t(1) << 31), call.op, ": ", n,
                    " Gaussians and ", bricks, " bricks are too many for one call");
  BrickTensors out;
  out.gaussians = at::empty({std::max<int64_t>(n, 1) * int64_t(grid_gaussian_bytes())},
                            like.options().dtype(at::kByte));
  const Tensor counts = at::zeros({n + 1}, ints);
  call(prepare(out.gaussians.mutable_data_ptr(), to(counts)));
  if (!lists) return out;
  const Tensor starts = scan_counts(call, counts);
  const int64_t pairs = read_numbers(call, starts.narrow(0, n, 1))[0];
  const Tensor keys = at::empty({pairs}, ints), ids = at::empty({pairs}, ints);
  if (pairs > 0)
    call(launch_brick_pairs(out.gaussians.const_data_ptr(), from(starts), n, per_sample, grid, edge,
                            to(keys), to(ids), call));
  const Sorted sorted = sort_by_key(call, keys, ids, bits_of(bricks));
  out.entries = sorted.values;
  out.offsets = at::empty({bricks + 1}, longs);
  call(launch_brick_offsets(from(sorted.keys), pairs, bricks, to(out.offsets), call));
  return out;
}

}  // namespace mmc
