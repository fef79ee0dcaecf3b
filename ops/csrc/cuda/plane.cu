// Planes of flat Gaussians, a thread per row; depth from blended planes, a thread per pixel.
#include "cuda/plane.h"

#include "cuda/common.cuh"
#include "math/plane.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;

struct Row {
  Camera<float> cam;
  Vec3<float> mean, scale;
  Quat<float> quat;
};

// False for ids out of range.
__device__ __forceinline__ bool read_row(const PlaneRows& in, int64_t r, Row& row) {
  const int64_t c = in.camera_ids ? in.camera_ids[r] : r / in.N;
  const int64_t i = in.gaussian_ids ? in.gaussian_ids[r] : r / (in.N * in.C) * in.N + r % in.N;
  if (in.gaussian_ids && !(id_fits(in.refused, kCameraIds, r, c, in.C) &&
                           id_fits(in.refused, kGaussianIds, r, i, in.N)))
    return false;
  const float K[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  row = {make_camera<float, float>(in.viewmats + 16 * c, K, 1.0f, 1.0f),
         load_vec(in.means + 3 * i), load_vec(in.scales + 3 * i), load_quat(in.quats + 4 * i)};
  return true;
}

__global__ void features_fwd_kernel(PlaneRows in, float* out) {
  const int64_t r = thread_index();
  if (r >= in.rows) return;
  Row row;
  Plane<float> p{};
  if (read_row(in, r, row)) p = plane_of(row.cam, row.mean, row.quat, row.scale);
  out[4 * r] = p.normal.x;
  out[4 * r + 1] = p.normal.y;
  out[4 * r + 2] = p.normal.z;
  out[4 * r + 3] = abs_(p.signed_distance);
}

__global__ void features_bwd_kernel(PlaneRows in, const float* v, float* rows, float* poses) {
  const int64_t r = thread_index();
  if (r >= in.rows) return;
  Row row;
  PlaneGrad<float> g{};
  if (read_row(in, r, row))
    g = plane_vjp(row.cam, row.mean, row.quat, row.scale, load_vec(v + 4 * r), v[4 * r + 3]);
  const float out[] = {g.mean.x, g.mean.y, g.mean.z, g.quat.w, g.quat.x, g.quat.y, g.quat.z};
  static_assert(sizeof(out) == kPlaneGrads * sizeof(float));
#pragma unroll
  for (int k = 0; k < kPlaneGrads; ++k) rows[kPlaneGrads * r + k] = out[k];
  if (!poses) return;
  const float t[3] = {g.t.x, g.t.y, g.t.z};
#pragma unroll
  for (int k = 0; k < kPlanePose; ++k) poses[kPlanePose * r + k] = k % 4 == 3 ? t[k / 4] : g.r.m[k / 4][k % 4];
}

__device__ __forceinline__ PlaneRay<float> read_ray(const float* K) {
  return {1.0f / K[0], 1.0f / K[4], K[2], K[5]};
}

__global__ void depth_fwd_kernel(PlaneImages in, const float* alphas,
                                 PlaneDepthLimits<float> limits, float* depth, bool* valid) {
  const int64_t p = thread_index(), per_image = in.height * in.width;
  if (p >= in.images * per_image) return;
  const int64_t y = p % per_image / in.width, x = p % in.width;
  const float along =
      along_ray(read_ray(in.Ks + 9 * (p / per_image)), x, y, in.normals + 3 * p);
  const bool good = plane_valid(along, alphas[p], limits);
  valid[p] = good;
  depth[p] = good ? plane_depth(along, in.distances[p]) : 0.0f;
}

__global__ void depth_bwd_kernel(PlaneImages in, const float* v_depth, const bool* valid,
                                 float* v_normals, float* v_distances) {
  const int64_t p = thread_index(), per_image = in.height * in.width;
  if (p >= in.images * per_image) return;
  const int64_t y = p % per_image / in.width, x = p % in.width;
  float normal[3] = {0.0f, 0.0f, 0.0f}, distance = 0.0f;
  if (valid[p])
    plane_depth_vjp(read_ray(in.Ks + 9 * (p / per_image)), x, y, in.normals + 3 * p,
                    in.distances[p], v_depth[p], normal, distance);
#pragma unroll
  for (int k = 0; k < 3; ++k) v_normals[3 * p + k] = normal[k];
  v_distances[p] = distance;
}

}  // namespace

cudaError_t launch_plane_features_fwd(const PlaneRows& in, float* features, cudaStream_t stream) {
  if (in.rows == 0) return cudaSuccess;
  features_fwd_kernel<<<blocks_for(in.rows, kThreads), kThreads, 0, stream>>>(in, features);
  return cudaGetLastError();
}

cudaError_t launch_plane_features_bwd(const PlaneRows& in, const float* v_features, float* rows,
                                      float* poses, cudaStream_t stream) {
  if (in.rows == 0) return cudaSuccess;
  features_bwd_kernel<<<blocks_for(in.rows, kThreads), kThreads, 0, stream>>>(in, v_features, rows,
                                                                              poses);
  return cudaGetLastError();
}

cudaError_t launch_plane_depth_fwd(const PlaneImages& in, const float* alphas, float min_alpha,
                                   float min_cosine, float* depth, bool* valid,
                                   cudaStream_t stream) {
  const int64_t n = in.images * in.height * in.width;
  if (n == 0) return cudaSuccess;
  depth_fwd_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(
      in, alphas, {min_alpha, min_cosine}, depth, valid);
  return cudaGetLastError();
}

cudaError_t launch_plane_depth_bwd(const PlaneImages& in, const float* v_depth, const bool* valid,
                                   float* v_normals, float* v_distances, cudaStream_t stream) {
  const int64_t n = in.images * in.height * in.width;
  if (n == 0) return cudaSuccess;
  depth_bwd_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(in, v_depth, valid, v_normals,
                                                                     v_distances);
  return cudaGetLastError();
}

}  // namespace mmc
