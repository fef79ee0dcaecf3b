// Launchers of operators that work on each Gaussian or point by itself.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

// Null results are skipped.
cudaError_t launch_covar_fwd(const float* quats, const float* scales, int64_t n, float* covars,
                             float* precis, cudaStream_t stream);
cudaError_t launch_covar_bwd(const float* quats, const float* scales, int64_t n,
                             const float* v_covars, const float* v_precis, float* v_quats,
                             float* v_scales, cudaStream_t stream);

cudaError_t launch_selective_adam(const float* grad, const bool* visible, int64_t rows,
                                  int64_t width, double lr, double b1, double b2, double eps,
                                  int64_t step, float* param, float* m, float* v,
                                  cudaStream_t stream);

// radii may be null: centres are tested. out [cameras, points].
cudaError_t launch_frustum_cull(const float* points, const float* radii, const float* viewmats,
                                const float* Ks, int64_t n_points, int64_t n_cameras, float width,
                                float height, float near_plane, float far_plane, float margin,
                                bool* out, cudaStream_t stream);

struct LodSettings {
  float voxel_size, standard_dist, resolution_scale;
  int32_t fork, n_levels, mode;  // mode: 0 floor, 1 round, 2 ceil, 3 progressive
};
cudaError_t launch_select_lod(const float* anchors, const int32_t* levels, const float* extra,
                              const float* centers, int64_t n, int64_t n_cameras,
                              const LodSettings& settings, bool* mask, float* ratio,
                              bool* transition, cudaStream_t stream);

}  // namespace mmc
