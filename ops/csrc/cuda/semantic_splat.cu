// Semantic splatting onto points. Points are sorted by brick and cell. Forward: a block per
// brick, a thread per point. Backward: a block per Gaussian; a thread takes columns of cells of
// its box, whose points lie together, so that no two blocks write the same gradient.
#include "cuda/semantic_splat.h"

#include "cuda/voxel_common.cuh"
#include "math/splat.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kCells = int64_t(kPointBrick) * kPointBrick * kPointBrick;

__device__ __forceinline__ uint64_t cell_key(const Bricks& b, int32_t x, int32_t y, int32_t z) {
  const int32_t e = kPointBrick;
  const int64_t brick = (int64_t(x / e) * b.count[1] + y / e) * b.count[2] + z / e;
  return static_cast<uint64_t>(brick * kCells + ((x % e) * e + y % e) * e + z % e);
}

__global__ void keys_kernel(const float* points, int64_t n, VoxelGrid<float> grid, uint64_t* keys,
                            int64_t* ids) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const Bricks bricks = make_bricks(grid, kPointBrick);
  int32_t cell[3];
  keys[i] = splat_cell(points + 3 * i, grid, cell)
                ? cell_key(bricks, cell[0], cell[1], cell[2])
                : static_cast<uint64_t>(bricks.total() * kCells);
  ids[i] = i;
}

__device__ __forceinline__ bool contains(const IndexBox& b, const int32_t* c) {
  return c[0] >= b.lo[0] && c[0] <= b.hi[0] && c[1] >= b.lo[1] && c[1] <= b.hi[1] &&
         c[2] >= b.lo[2] && c[2] <= b.hi[2];
}

constexpr int kPointThreads = 128;
constexpr int kStaged = 64;

template <int CB>
__global__ __launch_bounds__(kPointThreads) void forward_kernel(PointSplat in, float* logits,
                                                                float* complement,
                                                                float* density, float* mass) {
  __shared__ GridGaussian s_gaussians[kStaged];
  __shared__ int32_t s_ids[kStaged];
  const GridGaussian* all = static_cast<const GridGaussian*>(in.gaussians);
  const int64_t brick = blockIdx.x, begin = in.offsets[brick], end = in.offsets[brick + 1];
  if (begin == end) return;
  const int64_t first_point = lower_bound(in.keys, in.n_points, uint64_t(brick * kCells));
  const int64_t last_point = lower_bound(in.keys, in.n_points, uint64_t((brick + 1) * kCells));
  for (int64_t base = first_point; base < last_point; base += kPointThreads) {
    const bool on = base + threadIdx.x < last_point;
    const int64_t p = on ? in.order[base + threadIdx.x] : 0;
    float x[3] = {};
    int32_t cell[3] = {-1, -1, -1};
    if (on) {
      for (int d = 0; d < 3; ++d) x[d] = in.points[3 * p + d];
      splat_cell(x, in.grid, cell);
    }
    for (int64_t c0 = 0; c0 == 0 || c0 < in.channels; c0 += CB) {
      float total = 0.0f, sum = 0.0f, product = 1.0f, color[CB];
#pragma unroll
      for (int k = 0; k < CB; ++k) color[k] = 0.0f;
      for (int64_t first = begin; first < end; first += kStaged) {
        const int n = static_cast<int>(min_(int64_t(kStaged), end - first));
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < n) {
          s_ids[threadIdx.x] = in.entries[first + threadIdx.x];
          s_gaussians[threadIdx.x] = all[s_ids[threadIdx.x]];
        }
        __syncthreads();
        for (int j = 0; j < n; ++j) {
          const GridGaussian& g = s_gaussians[j];
          if (!contains(g.box, cell)) continue;
          float offset[3];
          whiten(g, x[0], x[1], x[2], offset);
          const float e = whitened_exp(offset), weight = g.amp * e;
          total += weight;
          sum += e;
          product *= miss_probability(e);
          const float* f = in.features + s_ids[j] * in.channels + c0;
#pragma unroll
          for (int k = 0; k < CB; ++k)
            if (c0 + k < in.channels) color[k] = fmaf(weight, __ldg(f + k), color[k]);
        }
      }
      if (!on) continue;
      float scale = 1.0f;
      if (in.probabilistic) {
        if (c0 == 0) {
          mass[p] = total;
          density[p] = sum;
          complement[p] = product;
        }
        scale = mixture_scale(total);
        if (!(scale > 0.0f)) continue;
      }
#pragma unroll
      for (int k = 0; k < CB; ++k)
        if (c0 + k < in.channels) logits[p * in.channels + c0 + k] = color[k] * scale;
    }
  }
}

// Per point: gradient by the weight that all Gaussians share, the scale of its semantics, and
// the gradients by density and by the complement times the complement.
__global__ void state_kernel(PointSplat in, PointGrads io) {
  const int64_t p = thread_index();
  if (p >= in.n_points) return;
  float own = 0.0f, scale = 1.0f, v_density = 0.0f, v_product = 0.0f;
  if (in.probabilistic) {
    scale = mixture_scale(io.mass[p]);
    v_density = io.v_density[p];
    v_product = io.v_complement[p] * io.complement[p];
    float product = 0.0f;
    for (int64_t c = 0; c < in.channels; ++c)
      product = fmaf(io.v_logits[p * in.channels + c], io.logits[p * in.channels + c], product);
    own = -product * scale;
  }
  reinterpret_cast<float4*>(io.state)[p] = make_float4(own, scale, v_density, v_product);
}

template <int CB>
__global__ __launch_bounds__(kPointThreads) void backward_kernel(PointSplat in, PointGrads io) {
  __shared__ float scratch[kPointThreads / kWarp];
  __shared__ float total[kMoments];
  const int64_t i = blockIdx.x, channels = in.channels;
  const GridGaussian g = static_cast<const GridGaussian*>(in.gaussians)[i];
  const Bricks bricks = make_bricks(in.grid, kPointBrick);
  const int32_t ny = g.box.hi[1] - g.box.lo[1] + 1;
  const int64_t columns =
      box_empty(g.box) ? 0 : int64_t(g.box.hi[0] - g.box.lo[0] + 1) * ny;
  if (threadIdx.x < kMoments) total[threadIdx.x] = 0.0f;
  __syncthreads();
  for (int64_t c0 = 0; c0 == 0 || c0 < channels; c0 += CB) {
    float m[kMoments] = {}, color[CB], f[CB];
#pragma unroll
    for (int k = 0; k < CB; ++k) {
      color[k] = 0.0f;
      f[k] = c0 + k < channels ? in.features[i * channels + c0 + k] : 0.0f;
    }
    for (int64_t column = threadIdx.x; column < columns; column += kPointThreads) {
      const int32_t x = g.box.lo[0] + int32_t(column / ny), y = g.box.lo[1] + int32_t(column % ny);
      for (int32_t z = g.box.lo[2]; z <= g.box.hi[2]; z = (z / kPointBrick + 1) * kPointBrick) {
        const int32_t last = min_(g.box.hi[2], (z / kPointBrick + 1) * kPointBrick - 1);
        const int64_t begin = lower_bound(in.keys, in.n_points, cell_key(bricks, x, y, z));
        const int64_t end =
            begin + lower_bound(in.keys + begin, in.n_points - begin,
                                cell_key(bricks, x, y, last) + 1);
        for (int64_t k = begin; k < end; ++k) {
          const int64_t p = in.order[k];
          float offset[3];
          whiten(g, in.points[3 * p], in.points[3 * p + 1], in.points[3 * p + 2], offset);
          const float e = whitened_exp(offset);
          const float4 s = reinterpret_cast<const float4*>(io.state)[p];
          float by_weight = c0 == 0 ? s.x : 0.0f;
          const float* v = io.v_logits + p * channels + c0;
#pragma unroll
          for (int c = 0; c < CB; ++c) {
            if (c0 + c < channels) {
              const float grad = __ldg(v + c) * s.y;
              by_weight = fmaf(f[c], grad, by_weight);
              color[c] = fmaf(g.amp * e, grad, color[c]);
            }
          }
          float by_e = g.amp * by_weight;
          if (c0 == 0) by_e += s.z - s.w / miss_probability(e);
          add_voxel_moments(m, e * by_weight, e * by_e, offset);
        }
      }
    }
    reduce_block<CB>(m, color, channels - c0, scratch, total, io.v_semantics + i * channels + c0);
  }
  if (threadIdx.x != 0) return;
  const GaussianMoments<double> moments = read_moments(total);
  double wide[9], v3[3], v9[9];
  for (int c = 0; c < 9; ++c) wide[c] = io.precis[9 * i + c];
  const Whitening<double> w = whiten_precision(wide);
  mean_vjp(moments, w, v3);
  precision_vjp(moments, w, v9);
  io.v_amps[i] = total[kAmp];
  for (int k = 0; k < 3; ++k) io.v_means[3 * i + k] = static_cast<float>(v3[k]);
  for (int k = 0; k < 9; ++k) io.v_precis[9 * i + k] = static_cast<float>(v9[k]);
}

}  // namespace

cudaError_t launch_point_keys(const float* points, int64_t n, const VoxelGrid<float>& grid,
                              uint64_t* keys, int64_t* ids, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  keys_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(points, n, grid, keys, ids);
  return cudaGetLastError();
}

cudaError_t launch_points_fwd(const PointSplat& in, float* logits, float* complement,
                              float* density, float* mass, cudaStream_t stream) {
  const int64_t bricks = make_bricks(in.grid, kPointBrick).total();
  if (in.n_points == 0 || in.n_gaussians == 0 || bricks == 0) return cudaSuccess;
  const unsigned blocks = static_cast<unsigned>(bricks);
  if (in.channels <= 8)
    forward_kernel<8><<<blocks, kPointThreads, 0, stream>>>(in, logits, complement, density, mass);
  else
    forward_kernel<32><<<blocks, kPointThreads, 0, stream>>>(in, logits, complement, density,
                                                             mass);
  return cudaGetLastError();
}

cudaError_t launch_points_bwd(const PointSplat& in, const PointGrads& io, cudaStream_t stream) {
  if (in.n_gaussians == 0) return cudaSuccess;
  if (in.n_points > 0)
    state_kernel<<<blocks_for(in.n_points, kThreads), kThreads, 0, stream>>>(in, io);
  const unsigned blocks = static_cast<unsigned>(in.n_gaussians);
  if (in.channels <= 8)
    backward_kernel<8><<<blocks, kPointThreads, 0, stream>>>(in, io);
  else
    backward_kernel<32><<<blocks, kPointThreads, 0, stream>>>(in, io);
  return cudaGetLastError();
}

}  // namespace mmc
