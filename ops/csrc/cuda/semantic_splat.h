// Launchers of semantic splatting onto points.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "math/voxel.h"

namespace mmc {

constexpr int32_t kPointBrick = 8;  // cells per edge of a brick

// Key of a point: brick * 512 + cell in the brick, z fastest; n_bricks * 512 outside the grid.
cudaError_t launch_point_keys(const float* points, int64_t n, const VoxelGrid<float>& grid,
                              uint64_t* keys, int64_t* ids, cudaStream_t stream);

struct PointSplat {
  const float *points, *features;  // [points, 3], [Gaussians, channels]
  const uint64_t* keys;            // sorted
  const int64_t* order;            // points in that order
  const void* gaussians;
  const int64_t* offsets;          // forward: lists of bricks
  const int32_t* entries;
  VoxelGrid<float> grid;
  int64_t n_points, n_gaussians, channels;
  bool probabilistic;
};
// Results hold what a point without Gaussians gets; points with any are written.
cudaError_t launch_points_fwd(const PointSplat& in, float* logits, float* complement,
                              float* density, float* mass, cudaStream_t stream);

struct PointGrads {
  const float *v_logits, *v_complement, *v_density;  // [points, channels], [points], [points]
  const float *logits, *complement, *mass;           // likewise
  const float* precis;                               // [Gaussians, 3, 3]
  float* state;  // scratch [points, 4]
  float *v_means, *v_precis;     // [Gaussians, 3], [Gaussians, 3, 3]
  float *v_amps, *v_semantics;   // [Gaussians], [Gaussians, channels]
};
cudaError_t launch_points_bwd(const PointSplat& in, const PointGrads& io, cudaStream_t stream);

}  // namespace mmc
