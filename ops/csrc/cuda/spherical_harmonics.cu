// View-dependent colours from spherical harmonics. Forward: a thread per row. Backward: dense, a
// thread owns a Gaussian and adds over cameras; packed, a thread owns a row.
#include "cuda/spherical_harmonics.h"

#include <type_traits>

#include "cuda/common.cuh"
#include "math/cameras.h"
#include "math/sh.h"

namespace mmc {
namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ Vec3<float> direction(const ShIn& in, int64_t image, int64_t g,
                                                 float& inv_norm) {
  const float* m = in.viewmats + 16 * image;
  Camera<float> cam;
#pragma unroll
  for (int k = 0; k < 9; ++k) cam.r.m[k / 3][k % 3] = m[k / 3 * 4 + k % 3];
  cam.t = {m[3], m[7], m[11]};
  return unit_direction(load_vec(in.means + 3 * g) - camera_center(cam), inv_norm);
}

// Image and Gaussian of a packed row; false and 0 for ids out of range.
__device__ __forceinline__ bool packed_ids(const ShIn& in, int64_t row, int64_t& image,
                                           int64_t& g) {
  image = in.camera_ids[row];
  g = in.gaussian_ids[row];
  if (id_fits(in.refused, kCameraIds, row, image, in.C) &&
      id_fits(in.refused, kGaussianIds, row, g, in.N))
    return true;
  image = g = 0;
  return false;
}

template <int Degree>
__global__ __launch_bounds__(kThreads) void forward_kernel(ShIn in, float* colors) {
  constexpr int kBases = sh_count(Degree);
  const bool packed = in.gaussian_ids != nullptr;
  const int64_t row = thread_index();
  if (row >= (packed ? in.rows : in.B * in.C * in.N)) return;
  int64_t image = 0, g = 0;
  bool on;
  if (packed) {
    on = packed_ids(in, row, image, g);
  } else {
    image = row / in.N;
    g = image / in.C * in.N + row % in.N;
    on = !in.masks || in.masks[row];
  }
  float* out = colors + row * in.D;
  if (!on) {
    for (int64_t d = 0; d < in.D; ++d) out[d] = 0.0f;
    return;
  }
  float y[kBases], inv_norm;
  sh_basis<float, Degree>(direction(in, image, g, inv_norm), y, 1);
  const float* base = in.base + g * in.base_stride;
  const float* rest = in.rest ? in.rest + g * in.rest_stride : nullptr;
  for (int64_t d = 0; d < in.D; ++d) {
    float sum = in.shift ? 0.5f : 0.0f;
#pragma unroll
    for (int k = 0; k < kBases; ++k) {
      const float c = k < in.base_count ? base[k * in.D + d]
                                        : rest[(k - in.base_count) * in.D + d];
      sum = fmaf(y[k], c, sum);
    }
    out[d] = in.shift ? max_(sum, 0.0f) : sum;
  }
}

// Gradients of one row; put(target, value) for the coefficients' gradients at base and rest.
// Returns the gradient by the direction.
template <int Degree, typename Put>
__device__ __forceinline__ Vec3<float> backward_row(const ShIn& in, const ShGrads& grads,
                                                    int64_t image, int64_t g, int64_t row,
                                                    float* v_base, float* v_rest,
                                                    bool need_direction, const Put& put) {
  constexpr int kBases = sh_count(Degree);
  float y[kBases], g_y[kBases], inv_norm;
  const Vec3<float> dir = direction(in, image, g, inv_norm);
  sh_basis<float, Degree>(dir, y, 1);
#pragma unroll
  for (int k = 0; k < kBases; ++k) g_y[k] = 0.0f;
  const float* base = in.base + g * in.base_stride;
  const float* rest = in.rest ? in.rest + g * in.rest_stride : nullptr;
  for (int64_t d = 0; d < in.D; ++d) {
    const int64_t at = row * in.D + d;
    float v = grads.v_colors[at];
    if (in.shift && !(grads.colors[at] > 0.0f)) v = 0.0f;  // clamped
#pragma unroll
    for (int k = 0; k < kBases; ++k) {
      const bool low = k < in.base_count;
      const int64_t i = (low ? k : k - in.base_count) * in.D + d;
      g_y[k] = fmaf(low ? base[i] : rest[i], v, g_y[k]);
      put((low ? v_base : v_rest) + i, y[k] * v);
    }
  }
  if (!need_direction) return {0.0f, 0.0f, 0.0f};
  return unit_direction_vjp(dir, inv_norm, sh_basis_vjp<float, Degree>(dir, g_y, 1));
}

template <int Degree>
__global__ __launch_bounds__(kThreads) void dense_bwd_kernel(ShIn in, ShGrads grads) {
  __shared__ double scratch[kThreads / kWarp];
  const int64_t n = thread_index(), b = blockIdx.y, g = b * in.N + n;
  const bool need = grads.means || grads.directions;
  Vec3<float> mean{0.0f, 0.0f, 0.0f};
  for (int64_t c = 0; c < in.C; ++c) {
    const int64_t image = b * in.C + c, row = image * in.N + n;
    const bool on = n < in.N && (!in.masks || in.masks[row]);
    Vec3<float> v{0.0f, 0.0f, 0.0f};
    if (on)
      v = backward_row<Degree>(in, grads, image, g, row, grads.base + g * grads.base_row,
                               grads.rest ? grads.rest + g * grads.rest_row : nullptr, need,
                               [](float* p, float x) { *p += x; });
    mean = mean + v;
    if (!grads.directions) continue;
    double* target = grads.directions + (int64_t(blockIdx.x) * in.B * in.C + image) * 3;
    const float parts[3] = {v.x, v.y, v.z};
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      const double sum = block_sum<double>(parts[k], scratch);
      if (threadIdx.x == 0) target[k] = sum;
    }
  }
  if (n < in.N && grads.means) {
    grads.means[3 * g] = mean.x;
    grads.means[3 * g + 1] = mean.y;
    grads.means[3 * g + 2] = mean.z;
  }
}

template <int Degree>
__global__ __launch_bounds__(kThreads) void packed_bwd_kernel(ShIn in, ShGrads grads,
                                                              ShRows mode) {
  __shared__ double scratch[kThreads / kWarp];
  const int64_t row = thread_index();
  const bool need = grads.means || grads.directions;
  const bool atomic = mode == ShRows::kStore && *grads.repeated;
  int64_t image = 0, g = 0;
  const bool on = row < in.rows && packed_ids(in, row, image, g);
  Vec3<float> v{0.0f, 0.0f, 0.0f};
  if (on) {
    const int64_t at = mode == ShRows::kPerRow ? row : g;
    v = backward_row<Degree>(in, grads, image, g, row, grads.base + at * grads.base_row,
                             grads.rest ? grads.rest + at * grads.rest_row : nullptr, need,
                             [atomic](float* p, float x) {
                               if (atomic)
                                 atomicAdd(p, x);
                               else
                                 *p = x;
                             });
    const float parts[3] = {v.x, v.y, v.z};
    for (int k = 0; k < 3; ++k) {
      if (grads.means && atomic) atomicAdd(grads.means + 3 * at + k, parts[k]);
      if (grads.means && !atomic) grads.means[3 * at + k] = parts[k];
      if (grads.directions && mode == ShRows::kPerRow) grads.directions[3 * row + k] = parts[k];
    }
  }
  if (!grads.directions || mode == ShRows::kPerRow) return;
  // Nearly always all rows of a block show one image: one sum and one atomic for all of them.
  __shared__ int64_t shared_image;
  if (threadIdx.x == 0) shared_image = image;
  __syncthreads();
  const int64_t common = shared_image;
  const float parts[3] = {v.x, v.y, v.z};
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const bool mine = on && image == common;
    const double sum = block_sum<double>(mine ? parts[k] : 0.0f, scratch);
    if (threadIdx.x == 0) atomicAdd(grads.directions + 3 * common + k, sum);
    if (on && !mine) atomicAdd(grads.directions + 3 * image + k, double(parts[k]));
  }
}

template <typename F>
cudaError_t with_degree(int32_t degree, const F& f) {
  if (degree == 0)
    f(std::integral_constant<int, 0>());
  else if (degree == 1)
    f(std::integral_constant<int, 1>());
  else if (degree == 2)
    f(std::integral_constant<int, 2>());
  else if (degree == 3)
    f(std::integral_constant<int, 3>());
  else
    f(std::integral_constant<int, 4>());
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_sh_fwd(const ShIn& in, float* colors, cudaStream_t stream) {
  const int64_t n = in.gaussian_ids ? in.rows : in.B * in.C * in.N;
  if (n == 0 || in.D == 0) return cudaSuccess;
  return with_degree(in.degree, [&](auto degree) {
    forward_kernel<decltype(degree)::value>
        <<<blocks_for(n, kThreads), kThreads, 0, stream>>>(in, colors);
  });
}

int64_t sh_dense_blocks(int64_t n_gaussians) { return blocks_for(n_gaussians, kThreads); }

cudaError_t launch_sh_dense_bwd(const ShIn& in, const ShGrads& g, cudaStream_t stream) {
  if (in.N == 0 || in.B == 0) return cudaSuccess;
  const dim3 grid(blocks_for(in.N, kThreads), static_cast<unsigned>(in.B));
  return with_degree(in.degree, [&](auto degree) {
    dense_bwd_kernel<decltype(degree)::value><<<grid, kThreads, 0, stream>>>(in, g);
  });
}

cudaError_t launch_sh_packed_bwd(const ShIn& in, const ShGrads& g, ShRows mode,
                                 cudaStream_t stream) {
  if (in.rows == 0) return cudaSuccess;
  return with_degree(in.degree, [&](auto degree) {
    packed_bwd_kernel<decltype(degree)::value>
        <<<blocks_for(in.rows, kThreads), kThreads, 0, stream>>>(in, g, mode);
  });
}

}  // namespace mmc
