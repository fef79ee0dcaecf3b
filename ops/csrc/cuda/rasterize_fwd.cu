// Compositing, forward. A block renders a square of 16 x 16 pixels, one pixel per thread, a warp
// a window of 8 x 4. Lists are staged 256 entries at a time; the thread that stages an entry also
// finds the windows its level set may meet, so that a warp only walks the entries of its window.
#include "cuda/raster_square.cuh"
#include "math/alpha.h"
#include "math/tiles.h"

namespace mmc {
namespace {

constexpr int kThreads = kSquare * kSquare;
constexpr int kStagedChannels = 4;  // up to here colours are staged too

struct alignas(16) Staged {
  float x, y, opacity, unused0, a, b, c, unused1;
};

// DP channels from blockIdx.y * DP on; Vec: rows of colours are made of aligned groups of four.
template <int DP, bool Vec>
__global__ __launch_bounds__(kThreads) void forward_kernel(RasterTiles tiles, RasterRows rows,
                                                           RasterOut out) {
  constexpr bool kStage = DP <= kStagedChannels;
  __shared__ Staged s_splats[kThreads];
  __shared__ float s_colors[kStage ? kThreads * DP : 1];
  __shared__ int64_t s_rows[kThreads];
  __shared__ unsigned s_hits[kThreads];
  __shared__ uint8_t s_windows[kThreads];

  const Square sq = square_of(tiles, blockIdx.x);
  const int subs = subs_of(tiles), warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int lx = window_x(warp, lane), ly = window_y(warp, lane);
  const bool inside = lx < sq.w && ly < sq.h, first_pass = blockIdx.y == 0;
  const float px = static_cast<float>(sq.x0 + lx) + 0.5f;
  const float py = static_cast<float>(sq.y0 + ly) + 0.5f;
  const int64_t c0 = int64_t(blockIdx.y) * DP, channels = rows.channels;
  float t = 1.0f;
  int32_t last = -1;
  bool done = !inside;
  float color[DP];
#pragma unroll
  for (int k = 0; k < DP; ++k) color[k] = 0.0f;

  for (int64_t begin = sq.begin; begin < sq.end; begin += kThreads) {
    if (__syncthreads_and(done)) break;  // also: all warps are through with the entries before
    const int n = static_cast<int>(min_(int64_t(kThreads), sq.end - begin));
    const int j = threadIdx.x;
    unsigned windows = 0;
    int64_t r;
    if (j < n && find_row(tiles, begin + j, r)) {
      const float a = rows.conics[3 * r], b = rows.conics[3 * r + 1], c = rows.conics[3 * r + 2];
      const ScaledConic<float> scaled = scale_conic(a, b, c);
      Staged s;
      s.x = rows.means2d[2 * r];
      s.y = rows.means2d[2 * r + 1];
      s.opacity = rows.opacities[r];
      s.a = scaled.a;
      s.b = scaled.b;
      s.c = scaled.c;
      s.unused0 = s.unused1 = 0.0f;
      s_splats[j] = s;
      s_rows[j] = r;
      if (kStage) {
#pragma unroll
        for (int k = 0; k < DP; ++k)
          s_colors[j * DP + k] = c0 + k < channels ? rows.colors[r * channels + c0 + k] : 0.0f;
      }
      windows = window_mask(ellipse_band(a, b, c, alpha_level(s.opacity)),
                            s.x - (static_cast<float>(sq.x0) + 0.5f),
                            s.y - (static_cast<float>(sq.y0) + 0.5f));
    }
    s_windows[j] = static_cast<uint8_t>(windows);
    s_hits[j] = 0;
    __syncthreads();

    bool all_done = __all_sync(kAllLanes, done);
    for (int first = 0; first < n && !all_done; first += kWarp) {
      unsigned todo = __ballot_sync(kAllLanes, (s_windows[first + lane] >> warp) & 1);
      while (todo) {
        const int i = first + __ffs(todo) - 1;
        todo &= todo - 1;
        const Staged s = s_splats[i];
        const auto e = eval_alpha<float, float>(ScaledConic<float>{s.a, s.b, s.c}, s.x - px,
                                                s.y - py, s.opacity);
        const bool met = e.hit && !done;
        const float next = t * (1.0f - e.alpha);
        const bool blended = met && next > rows.t_stop;
        done = done || (met && !blended);
        if (!__any_sync(kAllLanes, blended)) continue;
        const float weight = blended ? e.alpha * t : 0.0f;
        if (kStage) {
#pragma unroll
          for (int k = 0; k < DP; ++k) color[k] = fmaf(weight, s_colors[i * DP + k], color[k]);
        } else {
          const float* f = rows.colors + s_rows[i] * channels + c0;
#pragma unroll
          for (int k = 0; k < DP; k += 4) {
            if (Vec) {
              if (c0 + k < channels) {
                const float4 v = __ldg(reinterpret_cast<const float4*>(f + k));
                color[k] = fmaf(weight, v.x, color[k]);
                color[k + 1] = fmaf(weight, v.y, color[k + 1]);
                color[k + 2] = fmaf(weight, v.z, color[k + 2]);
                color[k + 3] = fmaf(weight, v.w, color[k + 3]);
              }
            } else {
#pragma unroll
              for (int m = k; m < k + 4; ++m)
                if (c0 + m < channels) color[m] = fmaf(weight, __ldg(f + m), color[m]);
            }
          }
        }
        if (first_pass) {
          if (lane == 0) atomicOr(&s_hits[i], 1u << warp);
          if (out.touched) {
            const unsigned front = __ballot_sync(kAllLanes, blended && t > 0.5f);
            const float top = warp_max(weight);
            if (lane == 0) {
              if (front) atomicAdd(&out.touched[s_rows[i]], __popc(front));
              // Weights are positive: their bits order like the numbers.
              atomicMax(reinterpret_cast<int*>(&out.peak[s_rows[i]]), __float_as_int(top));
            }
          }
        }
        if (blended) {
          t = next;
          last = static_cast<int32_t>(begin - sq.begin + i);
        }
      }
      all_done = __all_sync(kAllLanes, done);
    }
    __syncthreads();
    if (first_pass && j < n)
      out.hits[(begin + j) * subs + sq.sub] = static_cast<uint16_t>(s_hits[j]);
  }

  if (!inside) return;
  const int64_t p = sq.pixel + ly * sq.stride + lx;
  if (first_pass) {
    out.final_t[p] = t;
    out.alphas[p] = 1.0f - t;
    out.last[p] = last;
  }
  const float* background = rows.backgrounds ? rows.backgrounds + sq.image * channels : nullptr;
  float* target = out.renders + p * channels;
#pragma unroll
  for (int k = 0; k < DP; ++k) {
    if (c0 + k < channels)
      target[c0 + k] = background ? fmaf(t, background[c0 + k], color[k]) : color[k];
  }
}

template <int DP, bool Vec>
void run(const RasterTiles& tiles, const RasterRows& rows, const RasterOut& out,
         cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(tiles.squares()),
                  static_cast<unsigned>((rows.channels + DP - 1) / DP));
  forward_kernel<DP, Vec><<<grid, kThreads, 0, stream>>>(tiles, rows, out);
}

}  // namespace

cudaError_t launch_rasterize_fwd(const RasterTiles& tiles, const RasterRows& rows,
                                 const RasterOut& out, cudaStream_t stream) {
  if (tiles.squares() == 0) return cudaSuccess;
  const int64_t d = rows.channels;
  const bool vec = d % 4 == 0 && reinterpret_cast<uintptr_t>(rows.colors) % 16 == 0;
  if (d == 1)
    run<1, false>(tiles, rows, out, stream);
  else if (d == 2)
    run<2, false>(tiles, rows, out, stream);
  else if (d == 3)
    run<3, false>(tiles, rows, out, stream);
  else if (d == 4)
    run<4, false>(tiles, rows, out, stream);
  else if (d <= 8)
    vec ? run<8, true>(tiles, rows, out, stream) : run<8, false>(tiles, rows, out, stream);
  else if (d <= 16)
    vec ? run<16, true>(tiles, rows, out, stream) : run<16, false>(tiles, rows, out, stream);
  else if (d <= 32)
    vec ? run<32, true>(tiles, rows, out, stream) : run<32, false>(tiles, rows, out, stream);
  else
    vec ? run<64, true>(tiles, rows, out, stream) : run<64, false>(tiles, rows, out, stream);
  return cudaGetLastError();
}

}  // namespace mmc
