// Launchers of Gaussians on grids: bricks, density and features of voxels, semantics of points.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "math/voxel.h"

namespace mmc {

size_t grid_gaussian_bytes();  // of one prepared Gaussian

// Prepared Gaussians from covariances [n, 3, 3] and an extent in standard deviations, and the
// number of bricks each meets.
cudaError_t launch_box_gaussians(const float* means, const float* covars, const float* opacities,
                                 int64_t n, const VoxelGrid<float>& grid, float extent,
                                 int32_t brick_edge, void* gaussians, int32_t* counts,
                                 cudaStream_t stream);
// The same from precisions and radii in cells.
cudaError_t launch_cell_gaussians(const float* means, const float* precis, const float* amps,
                                  const int32_t* radii, int64_t n, const VoxelGrid<float>& grid,
                                  int32_t brick_edge, void* gaussians, int32_t* counts,
                                  cudaStream_t stream);
// (brick, Gaussian) pairs at starts[Gaussian]; bricks of sample b begin at b * bricks.
cudaError_t launch_brick_pairs(const void* gaussians, const int64_t* starts, int64_t n,
                               int64_t per_sample, const VoxelGrid<float>& grid,
                               int32_t brick_edge, uint32_t* bricks, int32_t* ids,
                               cudaStream_t stream);
// offsets[b] = first entry of brick b, for b = 0 .. n_bricks.
cudaError_t launch_brick_offsets(const uint32_t* bricks, int64_t n, int64_t n_bricks,
                                 int64_t* offsets, cudaStream_t stream);

struct VoxelSplat {
  const void* gaussians;
  const float* features;  // [Gaussians, channels]
  const int64_t* offsets;
  const int32_t* entries;
  VoxelGrid<float> grid;
  int64_t batch, per_sample, channels;
  float eps;
  bool normalize;
};
constexpr int32_t kVoxelBrick = 4;

cudaError_t launch_voxels_fwd(const VoxelSplat& in, float* density, float* out,
                              cudaStream_t stream);

struct VoxelGrads {
  const float *v_density, *v_out;  // [voxels], [voxels, channels]
  const float *density, *out;      // likewise
  const float* covars;             // [Gaussians, 3, 3], to whiten in double
  float* own;                      // scratch [voxels]: gradient by the weight, shared part
  float *v_means, *v_covars;        // [Gaussians, 3], [Gaussians, 3, 3]
  float *v_opacities, *v_features;  // [Gaussians], [Gaussians, channels]
};
cudaError_t launch_voxels_bwd(const VoxelSplat& in, const VoxelGrads& io, cudaStream_t stream);

}  // namespace mmc
