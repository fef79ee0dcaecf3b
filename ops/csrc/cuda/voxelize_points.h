// Launchers of points to voxels.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "math/points.h"

namespace mmc {

// coors [n, 3] in the order z, y, x; -1 outside.
cudaError_t launch_point_cells(const float* points, int64_t n, int64_t width,
                               const PointGrid<float>& grid, int32_t* coors, cudaStream_t stream);

// Row-major key of coordinates [n, axes] in a grid of `extent`; the number of cells for rows with
// a negative one. axes <= 4.
struct CellExtent {
  int64_t size[4];
  int64_t cells;
};
cudaError_t launch_cell_keys(const int32_t* coors, int64_t n, int32_t axes,
                             const CellExtent& extent, uint64_t* keys, int64_t* ids,
                             cudaStream_t stream);
// heads[i] = 1 where a run of equal keys below `cells` begins.
cudaError_t launch_run_heads(const uint64_t* keys, int64_t n, int64_t cells, int32_t* heads,
                             cudaStream_t stream);

struct HardVoxels {
  const float* points;   // [n, width]
  const uint64_t* keys;  // sorted
  const int64_t* order;
  const int64_t* starts;  // [runs]
  const int64_t* chosen;  // runs in the order of their first point
  int64_t n, width, runs, voxels, max_points, cells;
};
// Every slot is written: voxels [voxels, max_points, width], point_ids [voxels, max_points].
cudaError_t launch_fill_voxels(const HardVoxels& in, float* voxels, int32_t* num_points,
                               int64_t* point_ids, cudaStream_t stream);

enum class Reduction : int { kSum = 0, kMean = 1, kMax = 2 };
cudaError_t launch_reduce_voxels(const float* feats, const int64_t* order, const int64_t* offsets,
                                 int64_t voxels, int64_t channels, Reduction mode, float* out,
                                 int64_t* argmax, cudaStream_t stream);

}  // namespace mmc
