// What surrounds the backward of compositing: sums in a fixed order, gradients of rows from their
// moments, and gradients of backgrounds.
#include "cuda/raster_square.cuh"
#include "math/blend.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;

__global__ void count_windows_kernel(const uint16_t* hits, int64_t n, int32_t* counts) {
  const int64_t i = thread_index();
  if (i < n) counts[i] = __popc(hits[i]);
}

__global__ void slot_rows_kernel(RasterTiles tiles, const uint16_t* hits, const int64_t* slots,
                                 int64_t n, uint32_t* rows, int64_t* numbers) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const int count = __popc(hits[i]);
  if (count == 0) return;
  const uint32_t row = static_cast<uint32_t>(row_of(tiles, i / subs_of(tiles)));
  for (int k = 0; k < count; ++k) {
    rows[slots[i] + k] = row;
    numbers[slots[i] + k] = slots[i] + k;
  }
}

__global__ void sum_slots_kernel(const uint32_t* sorted_rows, const int64_t* numbers,
                                 int64_t n_slots, const float* partials, int64_t rows,
                                 int64_t width, float* sums) {
  const int64_t i = thread_index();
  if (i >= rows * width) return;
  const int64_t row = i / width, c = i % width;
  float sum = 0.0f;
  for (int64_t k = lower_bound(sorted_rows, n_slots, static_cast<uint32_t>(row));
       k < n_slots && sorted_rows[k] == static_cast<uint32_t>(row); ++k)
    sum += partials[numbers[k] * width + c];
  sums[i] = sum;
}

__global__ void finish_kernel(const float* moments, int64_t stride, RasterRows rows, int64_t n,
                              RasterGradients out) {
  const int64_t r = thread_index();
  if (r >= n) return;
  const float* m = moments + r * stride;
  const float opacity = rows.opacities[r];
  if (out.v_means2d) {
    const AlphaGrads<float> g =
        alpha_grads(alpha_moments(m), rows.conics[3 * r], rows.conics[3 * r + 1],
                    rows.conics[3 * r + 2], opacity);
    out.v_means2d[2 * r] = g.mean_x;
    out.v_means2d[2 * r + 1] = g.mean_y;
    out.v_conics[3 * r] = g.conic_a;
    out.v_conics[3 * r + 1] = g.conic_b;
    out.v_conics[3 * r + 2] = g.conic_c;
    out.v_opacities[r] = g.opacity;
  }
  if (out.v_absolute) {
    out.v_absolute[2 * r] = absolute_grad(m[kAbsX], opacity);
    out.v_absolute[2 * r + 1] = absolute_grad(m[kAbsY], opacity);
  }
  if (out.v_colors)
    for (int64_t k = 0; k < rows.channels; ++k)
      out.v_colors[r * rows.channels + k] = m[kMomentWidth + k];
}

// Threads are (pixel, channel) pairs, channels fastest; the pixels of a channel are added up in
// a fixed order.
__global__ __launch_bounds__(kThreads) void background_kernel(RasterTiles tiles, int64_t channels,
                                                              const float* final_t,
                                                              const float* v_renders,
                                                              float* sums) {
  __shared__ float partial[kThreads];
  const Square sq = square_of(tiles, blockIdx.x);
  for (int64_t k0 = 0; k0 < channels; k0 += kThreads) {
    const int width = static_cast<int>(min_(int64_t(kThreads), channels - k0));
    const int lanes = kThreads / width, c = threadIdx.x % width, lane = threadIdx.x / width;
    float sum = 0.0f;
    if (lane < lanes) {
      for (int i = lane; i < sq.w * sq.h; i += lanes) {
        const int64_t p = sq.pixel + i / sq.w * sq.stride + i % sq.w;
        sum = fmaf(final_t[p], v_renders[p * channels + k0 + c], sum);
      }
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < width) {
      float total = 0.0f;
      for (int l = 0; l < lanes; ++l) total += partial[l * width + threadIdx.x];
      sums[int64_t(blockIdx.x) * channels + k0 + threadIdx.x] = total;
    }
    __syncthreads();
  }
}

}  // namespace

cudaError_t launch_count_windows(const uint16_t* hits, int64_t n, int32_t* counts,
                                 cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  count_windows_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(hits, n, counts);
  return cudaGetLastError();
}

cudaError_t launch_slot_rows(const RasterTiles& tiles, const uint16_t* hits, const int64_t* slots,
                             uint32_t* rows, int64_t* numbers, cudaStream_t stream) {
  const int64_t n = tiles.n_entries * tiles.side() * tiles.side();
  if (n == 0) return cudaSuccess;
  slot_rows_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(tiles, hits, slots, n, rows,
                                                                     numbers);
  return cudaGetLastError();
}

cudaError_t launch_sum_slots(const uint32_t* sorted_rows, const int64_t* numbers, int64_t n_slots,
                             const float* partials, int64_t rows, int64_t width, float* sums,
                             cudaStream_t stream) {
  if (rows * width == 0) return cudaSuccess;
  sum_slots_kernel<<<blocks_for(rows * width, kThreads), kThreads, 0, stream>>>(
      sorted_rows, numbers, n_slots, partials, rows, width, sums);
  return cudaGetLastError();
}

cudaError_t launch_finish_gradients(const float* moments, int64_t stride, const RasterRows& rows,
                                    int64_t n, const RasterGradients& out, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  finish_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(moments, stride, rows, n, out);
  return cudaGetLastError();
}

cudaError_t launch_background_sums(const RasterTiles& tiles, int64_t channels,
                                   const float* final_t, const float* v_renders, float* sums,
                                   cudaStream_t stream) {
  if (tiles.squares() == 0) return cudaSuccess;
  background_kernel<<<static_cast<unsigned>(tiles.squares()), kThreads, 0, stream>>>(
      tiles, channels, final_t, v_renders, sums);
  return cudaGetLastError();
}

}  // namespace mmc
