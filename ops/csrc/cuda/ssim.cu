// Fused SSIM: a block loads a tile of 32 x 16 pixels with a halo of 5 into shared memory, blurs
// the moments along rows, then along columns, and finishes its pixels. Planes run over blockIdx.z
// and a loop, so that any number of them fits a launch.
#include "cuda/ssim.h"

#include "cuda/common.cuh"
#include "math/ssim.h"

namespace mmc {
namespace {

constexpr int kTileX = 32, kTileY = 16, kThreads = 256, kHalo = kSsimRadius;
constexpr int kLoadX = kTileX + 2 * kHalo, kLoadY = kTileY + 2 * kHalo;
constexpr int kPerThread = kTileX * kTileY / kThreads;
constexpr int64_t kMaxPlanes = 65535;

// Window sum of load(0) .. load(10).
template <typename Load>
__device__ __forceinline__ float window_sum(const Load& load) {
  float sum = SsimWindow<float>::taps[5] * load(5);
  sum = fmaf(SsimWindow<float>::taps[4], load(4) + load(6), sum);
  sum = fmaf(SsimWindow<float>::taps[3], load(3) + load(7), sum);
  sum = fmaf(SsimWindow<float>::taps[2], load(2) + load(8), sum);
  sum = fmaf(SsimWindow<float>::taps[1], load(1) + load(9), sum);
  return fmaf(SsimWindow<float>::taps[0], load(0) + load(10), sum);
}

struct Plane {
  int64_t height, width, area;
  int64_t x0, y0;  // first pixel of the tile

  // Index of a pixel of the tile with halo, or -1 outside the image.
  __device__ int64_t at(int i) const {
    const int64_t x = x0 + i % kLoadX - kHalo, y = y0 + i / kLoadX - kHalo;
    return x >= 0 && x < width && y >= 0 && y < height ? y * width + x : -1;
  }
};

__device__ __forceinline__ Plane make_plane(int64_t height, int64_t width) {
  return {height, width, height * width, int64_t(blockIdx.x) * kTileX,
          int64_t(blockIdx.y) * kTileY};
}

__global__ __launch_bounds__(kThreads) void forward_kernel(
    const float* img1, const float* img2, const float* centers, int64_t planes, int64_t height,
    int64_t width, int n_partials, float* map, float* partials) {
  __shared__ float s1[kLoadY][kLoadX], s2[kLoadY][kLoadX];
  __shared__ float rows[kSsimMeans][kLoadY][kTileX];
  const Plane p = make_plane(height, width);
  const int64_t stride = planes * p.area;
  for (int64_t plane = blockIdx.z; plane < planes; plane += gridDim.z) {
    const int64_t base = plane * p.area;
    const float c1 = centers[plane], c2 = centers[planes + plane];
    for (int i = threadIdx.x; i < kLoadX * kLoadY; i += kThreads) {
      const int64_t at = p.at(i);
      s1[i / kLoadX][i % kLoadX] = (at >= 0 ? img1[base + at] : 0.0f) - c1;
      s2[i / kLoadX][i % kLoadX] = (at >= 0 ? img2[base + at] : 0.0f) - c2;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < kTileX * kLoadY; i += kThreads) {
      const int x = i % kTileX, y = i / kTileX;
      const float *a = &s1[y][x], *b = &s2[y][x];
      rows[kMu1][y][x] = window_sum([&](int k) { return a[k]; });
      rows[kMu2][y][x] = window_sum([&](int k) { return b[k]; });
      rows[kE11][y][x] = window_sum([&](int k) { return a[k] * a[k]; });
      rows[kE22][y][x] = window_sum([&](int k) { return b[k] * b[k]; });
      rows[kE12][y][x] = window_sum([&](int k) { return a[k] * b[k]; });
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int x = threadIdx.x % kTileX, y = threadIdx.x / kTileX + j * (kThreads / kTileX);
      if (p.x0 + x >= width || p.y0 + y >= height) continue;
      float m[kSsimMeans];
#pragma unroll
      for (int q = 0; q < kSsimMeans; ++q)
        m[q] = window_sum([&](int k) { return rows[q][y + k][x]; });
      const SsimTerms<float> terms =
          ssim_terms(m[kMu1], m[kMu2], m[kE11], m[kE22], m[kE12], c1, c2);
      const int64_t at = base + (p.y0 + y) * width + p.x0 + x;
      map[at] = ssim_map(terms);
      if (n_partials == 0) continue;
      const SsimPartials<float> d = ssim_partials(terms, m[kMu1], m[kMu2], c1, c2);
      partials[at + kByMu1 * stride] = d.mu1;
      partials[at + kByE11 * stride] = d.e11;
      partials[at + kByE12 * stride] = d.e12;
      if (n_partials == kSsimPartials) partials[at + kByMu2 * stride] = d.mu2;
    }
    __syncthreads();
  }
}

__global__ __launch_bounds__(kThreads) void backward_kernel(
    const float* v_map, const float* img1, const float* img2, const float* centers,
    const float* partials, int64_t planes, int64_t height, int64_t width, int n_partials,
    float* v_img1, float* v_img2) {
  __shared__ float tile[kLoadY][kLoadX], rows[kLoadY][kTileX];
  const Plane p = make_plane(height, width);
  const int64_t stride = planes * p.area;
  for (int64_t plane = blockIdx.z; plane < planes; plane += gridDim.z) {
    const int64_t base = plane * p.area;
    float sums[kSsimPartials][kPerThread];
#pragma unroll
    for (int q = 0; q < kSsimPartials; ++q) {
      if (q < n_partials) {
        const float* d = partials + q * stride + base;
        for (int i = threadIdx.x; i < kLoadX * kLoadY; i += kThreads) {
          const int64_t at = p.at(i);
          tile[i / kLoadX][i % kLoadX] = at >= 0 ? v_map[base + at] * d[at] : 0.0f;
        }
      }
      __syncthreads();
      if (q < n_partials) {
        for (int i = threadIdx.x; i < kTileX * kLoadY; i += kThreads) {
          const float* a = &tile[i / kTileX][i % kTileX];
          rows[i / kTileX][i % kTileX] = window_sum([&](int k) { return a[k]; });
        }
      }
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        const int x = threadIdx.x % kTileX, y = threadIdx.x / kTileX + j * (kThreads / kTileX);
        sums[q][j] = window_sum([&](int k) { return rows[y + k][x]; });
      }
    }
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int x = threadIdx.x % kTileX, y = threadIdx.x / kTileX + j * (kThreads / kTileX);
      if (p.x0 + x >= width || p.y0 + y >= height) continue;
      const int64_t at = base + (p.y0 + y) * width + p.x0 + x;
      const float a = img1[at] - centers[plane], b = img2[at] - centers[planes + plane];
      v_img1[at] = ssim_image_grad(sums[kByMu1][j], sums[kByE11][j], sums[kByE12][j], a, b);
      if (n_partials == kSsimPartials)
        v_img2[at] = ssim_image_grad(sums[kByMu2][j], sums[kByE11][j], sums[kByE12][j], b, a);
    }
    __syncthreads();
  }
}

dim3 grid_of(int64_t planes, int64_t height, int64_t width) {
  return dim3(static_cast<unsigned>((width + kTileX - 1) / kTileX),
              static_cast<unsigned>((height + kTileY - 1) / kTileY),
              static_cast<unsigned>(planes < kMaxPlanes ? planes : kMaxPlanes));
}

}  // namespace

cudaError_t launch_ssim_fwd(const float* img1, const float* img2, const float* centers,
                            int64_t planes, int64_t height, int64_t width, int n_partials,
                            float* map, float* partials, cudaStream_t stream) {
  if (planes * height * width == 0) return cudaSuccess;
  forward_kernel<<<grid_of(planes, height, width), kThreads, 0, stream>>>(
      img1, img2, centers, planes, height, width, n_partials, map, partials);
  return cudaGetLastError();
}

cudaError_t launch_ssim_bwd(const float* v_map, const float* img1, const float* img2,
                            const float* centers, const float* partials, int64_t planes,
                            int64_t height, int64_t width, int n_partials, float* v_img1,
                            float* v_img2, cudaStream_t stream) {
  if (planes * height * width == 0) return cudaSuccess;
  backward_kernel<<<grid_of(planes, height, width), kThreads, 0, stream>>>(
      v_map, img1, img2, centers, partials, planes, height, width, n_partials, v_img1, v_img2);
  return cudaGetLastError();
}

}  // namespace mmc
