// Launchers of planes of flat Gaussians and depth from blended planes.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

// Dense (ids null): row = (batch * C + camera) * N + Gaussian. Packed: ids of each row.
struct PlaneRows {
  const float *means, *quats, *scales;       // [B * N, 3], [B * N, 4], [B * N, 3]
  const float* viewmats;                     // [B * C, 4, 4]
  const int64_t *camera_ids, *gaussian_ids;  // [rows]
  int64_t rows, N, C;
  int64_t* refused;  // report of ids out of range (ids.h)
};

cudaError_t launch_plane_features_fwd(const PlaneRows& in, float* features, cudaStream_t stream);
// rows [rows, 7]: gradients of mean (3) and quaternion (4); poses [rows, 3, 4]: [R | t], or null.
constexpr int kPlaneGrads = 7, kPlanePose = 12;
cudaError_t launch_plane_features_bwd(const PlaneRows& in, const float* v_features, float* rows,
                                      float* poses, cudaStream_t stream);

struct PlaneImages {
  const float *normals, *distances, *Ks;  // [images, H, W, 3], [images, H, W], [images, 3, 3]
  int64_t images, height, width;
};
cudaError_t launch_plane_depth_fwd(const PlaneImages& in, const float* alphas, float min_alpha,
                                   float min_cosine, float* depth, bool* valid,
                                   cudaStream_t stream);
cudaError_t launch_plane_depth_bwd(const PlaneImages& in, const float* v_depth, const bool* valid,
                                   float* v_normals, float* v_distances, cudaStream_t stream);

}  // namespace mmc
