// Launchers of the projection of Gaussians into cameras.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

struct ProjectionIn {  // batches B, Gaussians N, cameras C; rows are [B, C, N]
  const float *means, *covars, *quats, *scales;  // [B, N, 3]; [B, N, 3, 3], or 4 and 3 numbers
  const float *opacities;                        // [B, N] or null
  const float *viewmats, *Ks;                    // [B, C, 4, 4], [B, C, 3, 3]
  int64_t B, N, C;
  float width, height, eps2d, near_plane, far_plane, radius_clip;
  int32_t model;
  bool compensate;  // opacities times compensation decide radii
};

struct ProjectionRows {
  int32_t* radii;                 // [rows, 2]
  float *means2d, *depths;        // [rows, 2], [rows]
  float *conics, *compensations;  // [rows, 3], [rows] or null
};

// All rows; invisible ones are zero.
cudaError_t launch_project_dense(const ProjectionIn& in, const ProjectionRows& out,
                                 cudaStream_t stream);
// visible[row] = 1 where a row is kept.
cudaError_t launch_project_visible(const ProjectionIn& in, int32_t* visible, cudaStream_t stream);
// Visible rows at positions[row] (the scan of visible), in order.
struct PackedIds {
  int64_t *batch, *camera, *gaussian;  // [rows]
};
cudaError_t launch_project_packed(const ProjectionIn& in, const int32_t* visible,
                                  const int64_t* positions, const PackedIds& ids,
                                  const ProjectionRows& out, cudaStream_t stream);

// Gradients of a camera.
enum PoseSum { kRotation, kShift = kRotation + 9, kPose = kShift + 3 };

struct ProjectionGrads {  // of the outputs; null counts as zero
  const float *means2d, *depths, *conics, *compensations;  // shapes as of ProjectionRows
};
struct ProjectionGradOut {
  float *means, *covars, *quats, *scales;  // [B, N, ...], or per row [rows, ...]
  double* pose;  // dense: [blocks, B * C, 12]; packed: [B * C, 12] or per row [rows, 12]; or null
};
enum class RowSums : int { kStore = 0, kAtomic = 1, kPerRow = 2 };

int64_t project_dense_blocks(int64_t n_gaussians);  // blocks of one batch of the dense backward
// A thread owns a Gaussian and adds over cameras; gradients of all Gaussians are written.
cudaError_t launch_project_dense_bwd(const ProjectionIn& in, const int32_t* radii,
                                     const ProjectionGrads& v, const ProjectionGradOut& out,
                                     cudaStream_t stream);
// A thread owns a packed row. kStore: every Gaussian has at most one row.
cudaError_t launch_project_packed_bwd(const ProjectionIn& in, const int64_t* gaussian_ids,
                                      const int64_t* indptr, int64_t rows, RowSums sums,
                                      const ProjectionGrads& v, const ProjectionGradOut& out,
                                      cudaStream_t stream);

}  // namespace mmc
