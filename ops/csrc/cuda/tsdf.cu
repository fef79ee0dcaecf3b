// TSDF fusion: a block of threads takes one plane x of a block of voxels. Camera coordinates of
// the rows' first voxels are found in double, in shared memory; along a row they advance in
// float, as on the CPU.
#include "cuda/tsdf.h"

#include "cuda/common.cuh"

namespace mmc {
namespace {

constexpr int kThreads = 256;

__global__ __launch_bounds__(kThreads) void integrate_kernel(TsdfVolume volume,
                                                             TsdfView<float> view,
                                                             const double* K, const double* pose,
                                                             const float* image) {
  __shared__ float rows[kThreads][3];
  view.fx = static_cast<float>(K[0]);
  view.fy = static_cast<float>(K[4]);
  view.cx = static_cast<float>(K[2]);
  view.cy = static_cast<float>(K[5]);
  const int64_t block = blockIdx.x / volume.nx, x = blockIdx.x % volume.nx;
  const int32_t* c = volume.blocks + 3 * block;
  const double vs = volume.voxel_size;
  const float step[3] = {static_cast<float>(pose[2] * vs), static_cast<float>(pose[6] * vs),
                         static_cast<float>(pose[10] * vs)};
  for (int64_t y0 = 0; y0 < volume.ny; y0 += kThreads) {
    const int64_t count = min_(int64_t(kThreads), volume.ny - y0);
    __syncthreads();
    if (threadIdx.x < count) {
      const double p[3] = {
          volume.origin[0] + (double(c[0]) * volume.nx + x + 0.5) * vs,
          volume.origin[1] + (double(c[1]) * volume.ny + y0 + threadIdx.x + 0.5) * vs,
          volume.origin[2] + (double(c[2]) * volume.nz + 0.5) * vs};
      for (int i = 0; i < 3; ++i)
        rows[threadIdx.x][i] = static_cast<float>(pose[4 * i] * p[0] + pose[4 * i + 1] * p[1] +
                                                  pose[4 * i + 2] * p[2] + pose[4 * i + 3]);
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count * volume.nz; i += kThreads) {
      const int64_t y = i / volume.nz, z = i % volume.nz;
      const float* base = rows[y];
      const float k = static_cast<float>(z), depth = base[2] + k * step[2];
      const int64_t pixel = tsdf_pixel(view, base[0] + k * step[0], base[1] + k * step[1], depth);
      float value;
      if (pixel < 0 || !tsdf_value(view, pixel, depth, &value)) continue;
      const int64_t at = ((block * volume.nx + x) * volume.ny + y0 + y) * volume.nz + z;
      const float weight = volume.weight[at];
      volume.tsdf[at] = running_mean(volume.tsdf[at], weight, value, view.weight);
      if (image) {
        for (int d = 0; d < 3; ++d)
          volume.color[3 * at + d] =
              running_mean(volume.color[3 * at + d], weight, image[3 * pixel + d], view.weight);
      }
      volume.weight[at] = weight + view.weight;
    }
  }
}

}  // namespace

cudaError_t launch_tsdf_integrate(const TsdfVolume& volume, const TsdfView<float>& view,
                                  const double* K, const double* viewmat, const float* image,
                                  cudaStream_t stream) {
  const int64_t planes = volume.n_blocks * volume.nx;
  if (planes * volume.ny * volume.nz == 0) return cudaSuccess;
  integrate_kernel<<<static_cast<unsigned>(planes), kThreads, 0, stream>>>(volume, view, K,
                                                                           viewmat, image);
  return cudaGetLastError();
}

}  // namespace mmc
