// Covariances, Adam on visible rows, frustum culling and level-of-detail selection.
#include "cuda/pointwise.h"

#include <cmath>

#include "cuda/common.cuh"
#include "math/adam.h"
#include "math/covar.h"
#include "math/cull.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;

__global__ void covar_fwd_kernel(const float* quats, const float* scales, int64_t n,
                                 float* covars, float* precis) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const Quat<float> q = load_quat(quats + 4 * i);
  const Vec3<float> s = load_vec(scales + 3 * i);
  if (covars) store_matrix(covar_fwd(q, s), covars + 9 * i);
  if (precis) store_matrix(preci_fwd(q, s), precis + 9 * i);
}

__global__ void covar_bwd_kernel(const float* quats, const float* scales, int64_t n,
                                 const float* v_covars, const float* v_precis, float* v_quats,
                                 float* v_scales) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const Quat<float> q = load_quat(quats + 4 * i);
  const Vec3<float> s = load_vec(scales + 3 * i);
  Quat<float> gq{0.0f, 0.0f, 0.0f, 0.0f};
  Vec3<float> gs{0.0f, 0.0f, 0.0f};
  const auto add = [&](const RotScaleGrad<float>& g) {
    gq = {gq.w + g.quat.w, gq.x + g.quat.x, gq.y + g.quat.y, gq.z + g.quat.z};
    gs = gs + g.scale;
  };
  if (v_covars) add(covar_vjp(q, s, load_matrix(v_covars + 9 * i)));
  if (v_precis) add(preci_vjp(q, s, load_matrix(v_precis + 9 * i)));
  v_quats[4 * i] = gq.w;
  v_quats[4 * i + 1] = gq.x;
  v_quats[4 * i + 2] = gq.y;
  v_quats[4 * i + 3] = gq.z;
  v_scales[3 * i] = gs.x;
  v_scales[3 * i + 1] = gs.y;
  v_scales[3 * i + 2] = gs.z;
}

__global__ void adam_kernel(AdamParams<float> a, const float* grad, const bool* visible,
                            int64_t n, int64_t width, float* param, float* m, float* v) {
  const int64_t i = thread_index();
  if (i < n && visible[i / width]) adam_step(a, grad[i], param[i], m[i], v[i]);
}

__global__ void cull_kernel(const float* points, const float* radii, const float* viewmats,
                            const float* Ks, int64_t n_points, int64_t n_cameras, float width,
                            float height, float near_plane, float far_plane, float margin,
                            bool* out) {
  const int64_t i = thread_index();
  if (i >= n_points) return;
  const Vec3<float> p = load_vec(points + 3 * i);
  for (int64_t c = 0; c < n_cameras; ++c) {  // the same for all threads: cached
    const Frustum<float> f = make_frustum(
        make_camera<float, float>(viewmats + 16 * c, Ks + 9 * c, width, height), near_plane,
        far_plane);
    out[c * n_points + i] =
        radii ? sphere_visible(f, p, radii[i] + margin) : center_visible(f, p);
  }
}

__global__ void lod_kernel(const float* anchors, const int32_t* levels, const float* extra,
                           const float* centers, int64_t n, int64_t n_cameras, LodSettings s,
                           bool* mask, float* ratio, bool* transition) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const Vec3<float> p = load_vec(anchors + 3 * i);
  const float level = static_cast<float>(levels[i]);
  const float half =
      static_cast<float>(0.5 * s.voxel_size / ::pow(double(s.fork), double(levels[i])));
  const float inv_log = 1.0f / log_(static_cast<float>(s.fork));
  const float top = static_cast<float>(s.n_levels - 1), near_one = 0.9999f;
  for (int64_t c = 0; c < n_cameras; ++c) {
    const float want = wanted_level(p, half, load_vec(centers + 3 * c), s.standard_dist,
                                    s.resolution_scale, inv_log, extra ? extra[i] : 0.0f);
    const int64_t at = c * n + i;
    if (s.mode == 3) {
      const float position = clamp_(want + 1.0f, near_one, top + near_one);
      const float whole = floor_(position);
      mask[at] = level <= whole;
      ratio[at] = position - whole;
      transition[at] = level == whole;
    } else {
      const float rounded =
          s.mode == 0 ? floor_(want) : (s.mode == 1 ? nearbyintf(want) : ceil_(want));
      mask[at] = level <= clamp_(rounded, 0.0f, top);
    }
  }
}

}  // namespace

cudaError_t launch_covar_fwd(const float* quats, const float* scales, int64_t n, float* covars,
                             float* precis, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  covar_fwd_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(quats, scales, n, covars,
                                                                     precis);
  return cudaGetLastError();
}

cudaError_t launch_covar_bwd(const float* quats, const float* scales, int64_t n,
                             const float* v_covars, const float* v_precis, float* v_quats,
                             float* v_scales, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  covar_bwd_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(
      quats, scales, n, v_covars, v_precis, v_quats, v_scales);
  return cudaGetLastError();
}

cudaError_t launch_selective_adam(const float* grad, const bool* visible, int64_t rows,
                                  int64_t width, double lr, double b1, double b2, double eps,
                                  int64_t step, float* param, float* m, float* v,
                                  cudaStream_t stream) {
  const int64_t n = rows * width;
  if (n == 0) return cudaSuccess;
  const AdamParams<float> a{
      static_cast<float>(b1), static_cast<float>(b2),
      static_cast<float>(lr / (1 - std::pow(b1, static_cast<double>(step)))),
      static_cast<float>(1 / std::sqrt(1 - std::pow(b2, static_cast<double>(step)))),
      static_cast<float>(eps)};
  adam_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(a, grad, visible, n, width, param,
                                                                m, v);
  return cudaGetLastError();
}

cudaError_t launch_frustum_cull(const float* points, const float* radii, const float* viewmats,
                                const float* Ks, int64_t n_points, int64_t n_cameras, float width,
                                float height, float near_plane, float far_plane, float margin,
                                bool* out, cudaStream_t stream) {
  if (n_points * n_cameras == 0) return cudaSuccess;
  cull_kernel<<<blocks_for(n_points, kThreads), kThreads, 0, stream>>>(
      points, radii, viewmats, Ks, n_points, n_cameras, width, height, near_plane, far_plane,
      margin, out);
  return cudaGetLastError();
}

cudaError_t launch_select_lod(const float* anchors, const int32_t* levels, const float* extra,
                              const float* centers, int64_t n, int64_t n_cameras,
                              const LodSettings& settings, bool* mask, float* ratio,
                              bool* transition, cudaStream_t stream) {
  if (n * n_cameras == 0) return cudaSuccess;
  lod_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(
      anchors, levels, extra, centers, n, n_cameras, settings, mask, ratio, transition);
  return cudaGetLastError();
}

}  // namespace mmc
