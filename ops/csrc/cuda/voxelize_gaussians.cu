// Gaussians to voxels. Forward: a block per brick of 4^3 voxels, a thread per voxel, the brick's
// Gaussians staged in shared memory. Backward: a block per Gaussian over the voxels of its box, so
// that no two blocks write the same gradient.
#include "cuda/voxelize_gaussians.h"

#include "cuda/voxel_common.cuh"
#include "math/splat.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;

template <bool FromPrecision>
__device__ __forceinline__ Whitening<double> whiten_wide(const float* matrix) {
  double wide[9];
  for (int c = 0; c < 9; ++c) wide[c] = matrix[c];
  return FromPrecision ? whiten_precision(wide) : whiten_covariance(wide);
}

template <bool FromPrecision>
__global__ void prepare_kernel(const float* means, const float* matrices, const float* amps,
                               const int32_t* radii, int64_t n, VoxelGrid<float> grid,
                               float extent, int32_t edge, GridGaussian* out, int32_t* counts) {
  const int64_t i = thread_index();
  if (i >= n) return;
  GridGaussian g;
  for (int d = 0; d < 3; ++d) g.mean[d] = means[3 * i + d];
  g.amp = amps[i];
  const float* m = matrices + 9 * i;
  const Whitening<double> w = whiten_wide<FromPrecision>(m);
  for (int c = 0; c < 6; ++c) g.white.w[c] = static_cast<float>(w.w[c]);
  if (FromPrecision) {
    g.box = radii[i] < 0 ? empty_box() : cell_box(g.mean, radii[i], grid);
  } else {
    const float variances[3] = {m[0], m[4], m[8]};
    g.box = gaussian_box(g.mean, variances, extent, grid);
  }
  out[i] = g;
  counts[i] = static_cast<int32_t>(bricks_of_box(make_bricks(grid, edge), g.box));
}

// A warp per Gaussian: lanes write its pairs.
__global__ void pairs_kernel(const GridGaussian* gaussians, const int64_t* starts, int64_t n,
                             int64_t per_sample, Bricks bricks, uint32_t* out, int32_t* ids) {
  const int64_t i = thread_index() / kWarp;
  if (i >= n) return;
  const IndexBox box = gaussians[i].box;
  const int64_t count = bricks_of_box(bricks, box), first = i / per_sample * bricks.total();
  for (int64_t k = threadIdx.x % kWarp; k < count; k += kWarp) {
    out[starts[i] + k] = static_cast<uint32_t>(first + brick_of_box(bricks, box, k));
    ids[starts[i] + k] = static_cast<int32_t>(i);
  }
}

__global__ void offsets_kernel(const uint32_t* bricks, int64_t n, int64_t n_bricks,
                               int64_t* offsets) {
  const int64_t b = thread_index();
  if (b <= n_bricks) offsets[b] = lower_bound(bricks, n, static_cast<uint32_t>(b));
}

constexpr int kBrickThreads = kVoxelBrick * kVoxelBrick * kVoxelBrick;
constexpr int kStaged = 64;

// Channels c0 .. c0 + CB of a pass stay in registers; the weights are found again in each pass.
template <int CB>
__global__ __launch_bounds__(kBrickThreads) void forward_kernel(VoxelSplat in, float* density,
                                                                float* out) {
  __shared__ GridGaussian s_gaussians[kStaged];
  __shared__ int32_t s_ids[kStaged];
  const GridGaussian* all = static_cast<const GridGaussian*>(in.gaussians);
  const Bricks bricks = make_bricks(in.grid, kVoxelBrick);
  const int64_t brick = blockIdx.x, b = brick % bricks.total();
  const int32_t t = threadIdx.x;
  const int32_t x = int32_t(b / bricks.count[2] / bricks.count[1]) * kVoxelBrick + t / 16;
  const int32_t y = int32_t(b / bricks.count[2] % bricks.count[1]) * kVoxelBrick + t / 4 % 4;
  const int32_t z = int32_t(b % bricks.count[2]) * kVoxelBrick + t % 4;
  const int32_t* dims = in.grid.dims;
  const bool inside = x < dims[0] && y < dims[1] && z < dims[2];
  const float cx = in.grid.centre(0, x), cy = in.grid.centre(1, y), cz = in.grid.centre(2, z);
  const int64_t voxel =
      ((brick / bricks.total() * dims[0] + x) * dims[1] + y) * dims[2] + z;
  const int64_t begin = in.offsets[brick], end = in.offsets[brick + 1];
  for (int64_t c0 = 0; c0 == 0 || c0 < in.channels; c0 += CB) {
    float sum = 0.0f, color[CB];
#pragma unroll
    for (int k = 0; k < CB; ++k) color[k] = 0.0f;
    for (int64_t first = begin; first < end; first += kStaged) {
      const int n = static_cast<int>(min_(int64_t(kStaged), end - first));
      __syncthreads();
      if (t < n) {
        s_ids[t] = in.entries[first + t];
        s_gaussians[t] = all[s_ids[t]];
      }
      __syncthreads();
      for (int j = 0; j < n; ++j) {
        const GridGaussian& g = s_gaussians[j];
        const bool in_box = x >= g.box.lo[0] && x <= g.box.hi[0] && y >= g.box.lo[1] &&
                            y <= g.box.hi[1] && z >= g.box.lo[2] && z <= g.box.hi[2];
        if (!in_box) continue;
        float offset[3];
        whiten(g, cx, cy, cz, offset);
        const float weight = g.amp * whitened_exp(offset);
        sum += weight;
        const float* f = in.features + s_ids[j] * in.channels + c0;
#pragma unroll
        for (int k = 0; k < CB; ++k)
          if (c0 + k < in.channels) color[k] = fmaf(weight, __ldg(f + k), color[k]);
      }
    }
    if (!inside) continue;
    if (c0 == 0) density[voxel] = sum;
    const float scale = feature_scale(sum, in.eps, in.normalize);
#pragma unroll
    for (int k = 0; k < CB; ++k)
      if (c0 + k < in.channels) out[voxel * in.channels + c0 + k] = color[k] * scale;
  }
}

// Gradient by the weight that all Gaussians of a voxel share.
__global__ void own_kernel(VoxelSplat in, VoxelGrads io, int64_t voxels) {
  const int64_t v = thread_index();
  if (v >= voxels) return;
  const float density = io.density[v];
  float own = io.v_density[v];
  if (divides_by_density(density, in.eps, in.normalize)) {
    float product = 0.0f;
    for (int64_t c = 0; c < in.channels; ++c)
      product = fmaf(io.v_out[v * in.channels + c], io.out[v * in.channels + c], product);
    own -= product * feature_scale(density, in.eps, in.normalize);
  }
  io.own[v] = own;
}

constexpr int kBackwardThreads = 128;

template <int CB>
__global__ __launch_bounds__(kBackwardThreads) void backward_kernel(VoxelSplat in,
                                                                    VoxelGrads io) {
  __shared__ float scratch[kBackwardThreads / kWarp];
  __shared__ float total[kMoments];
  const int64_t i = blockIdx.x, channels = in.channels;
  const GridGaussian g = static_cast<const GridGaussian*>(in.gaussians)[i];
  const int32_t* dims = in.grid.dims;
  const bool empty = box_empty(g.box);
  const int32_t ny = g.box.hi[1] - g.box.lo[1] + 1, nz = g.box.hi[2] - g.box.lo[2] + 1;
  const int64_t count = empty ? 0 : int64_t(g.box.hi[0] - g.box.lo[0] + 1) * ny * nz;
  const int64_t first = i / in.per_sample * dims[0];
  if (threadIdx.x < kMoments) total[threadIdx.x] = 0.0f;
  __syncthreads();
  for (int64_t c0 = 0; c0 == 0 || c0 < channels; c0 += CB) {
    float m[kMoments] = {}, color[CB], f[CB];
#pragma unroll
    for (int k = 0; k < CB; ++k) {
      color[k] = 0.0f;
      f[k] = c0 + k < channels ? in.features[i * channels + c0 + k] : 0.0f;
    }
    for (int64_t k = threadIdx.x; k < count; k += kBackwardThreads) {
      const int32_t z = g.box.lo[2] + int32_t(k % nz), y = g.box.lo[1] + int32_t(k / nz % ny);
      const int32_t x = g.box.lo[0] + int32_t(k / (int64_t(nz) * ny));
      const int64_t voxel = ((first + x) * dims[1] + y) * dims[2] + z;
      float offset[3];
      whiten(g, in.grid.centre(0, x), in.grid.centre(1, y), in.grid.centre(2, z), offset);
      const float e = whitened_exp(offset);
      const float scale = feature_scale(io.density[voxel], in.eps, in.normalize);
      float dot = c0 == 0 ? io.own[voxel] : 0.0f;
      const float* v = io.v_out + voxel * channels + c0;
#pragma unroll
      for (int c = 0; c < CB; ++c) {
        if (c0 + c < channels) {
          const float grad = __ldg(v + c) * scale;
          dot = fmaf(f[c], grad, dot);
          color[c] = fmaf(g.amp * e, grad, color[c]);
        }
      }
      add_voxel_moments(m, e * dot, g.amp * e * dot, offset);
    }
    reduce_block<CB>(m, color, channels - c0, scratch, total, io.v_features + i * channels + c0);
  }
  if (threadIdx.x != 0) return;
  const GaussianMoments<double> moments = read_moments(total);
  const Whitening<double> w = whiten_wide<false>(io.covars + 9 * i);
  double v3[3], v9[9];
  mean_vjp(moments, w, v3);
  covariance_vjp(moments, w, v9);
  io.v_opacities[i] = total[kAmp];
  for (int k = 0; k < 3; ++k) io.v_means[3 * i + k] = static_cast<float>(v3[k]);
  for (int k = 0; k < 9; ++k) io.v_covars[9 * i + k] = static_cast<float>(v9[k]);
}

}  // namespace

size_t grid_gaussian_bytes() { return sizeof(GridGaussian); }

cudaError_t launch_box_gaussians(const float* means, const float* covars, const float* opacities,
                                 int64_t n, const VoxelGrid<float>& grid, float extent,
                                 int32_t brick_edge, void* gaussians, int32_t* counts,
                                 cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  prepare_kernel<false><<<blocks_for(n, kThreads), kThreads, 0, stream>>>(
      means, covars, opacities, nullptr, n, grid, extent, brick_edge,
      static_cast<GridGaussian*>(gaussians), counts);
  return cudaGetLastError();
}

cudaError_t launch_cell_gaussians(const float* means, const float* precis, const float* amps,
                                  const int32_t* radii, int64_t n, const VoxelGrid<float>& grid,
                                  int32_t brick_edge, void* gaussians, int32_t* counts,
                                  cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  prepare_kernel<true><<<blocks_for(n, kThreads), kThreads, 0, stream>>>(
      means, precis, amps, radii, n, grid, 0.0f, brick_edge,
      static_cast<GridGaussian*>(gaussians), counts);
  return cudaGetLastError();
}

cudaError_t launch_brick_pairs(const void* gaussians, const int64_t* starts, int64_t n,
                               int64_t per_sample, const VoxelGrid<float>& grid,
                               int32_t brick_edge, uint32_t* bricks, int32_t* ids,
                               cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  pairs_kernel<<<blocks_for(n * kWarp, kThreads), kThreads, 0, stream>>>(
      static_cast<const GridGaussian*>(gaussians), starts, n, per_sample,
      make_bricks(grid, brick_edge), bricks, ids);
  return cudaGetLastError();
}

cudaError_t launch_brick_offsets(const uint32_t* bricks, int64_t n, int64_t n_bricks,
                                 int64_t* offsets, cudaStream_t stream) {
  offsets_kernel<<<blocks_for(n_bricks + 1, kThreads), kThreads, 0, stream>>>(bricks, n, n_bricks,
                                                                              offsets);
  return cudaGetLastError();
}

cudaError_t launch_voxels_fwd(const VoxelSplat& in, float* density, float* out,
                              cudaStream_t stream) {
  const int64_t blocks = in.batch * make_bricks(in.grid, kVoxelBrick).total();
  if (blocks == 0) return cudaSuccess;
  const unsigned grid = static_cast<unsigned>(blocks);
  if (in.channels == 0)
    forward_kernel<1><<<grid, kBrickThreads, 0, stream>>>(in, density, out);
  else if (in.channels <= 8)
    forward_kernel<8><<<grid, kBrickThreads, 0, stream>>>(in, density, out);
  else
    forward_kernel<32><<<grid, kBrickThreads, 0, stream>>>(in, density, out);
  return cudaGetLastError();
}

cudaError_t launch_voxels_bwd(const VoxelSplat& in, const VoxelGrads& io, cudaStream_t stream) {
  const int64_t n = in.batch * in.per_sample;
  if (n == 0) return cudaSuccess;
  const int64_t voxels =
      in.batch * int64_t(in.grid.dims[0]) * in.grid.dims[1] * in.grid.dims[2];
  own_kernel<<<blocks_for(voxels, kThreads), kThreads, 0, stream>>>(in, io, voxels);
  const unsigned blocks = static_cast<unsigned>(n);
  if (in.channels == 0)
    backward_kernel<1><<<blocks, kBackwardThreads, 0, stream>>>(in, io);
  else if (in.channels <= 8)
    backward_kernel<8><<<blocks, kBackwardThreads, 0, stream>>>(in, io);
  else
    backward_kernel<32><<<blocks, kBackwardThreads, 0, stream>>>(in, io);
  return cudaGetLastError();
}

}  // namespace mmc
