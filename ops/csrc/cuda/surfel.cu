// Compositing of 2D Gaussians (surfels): like the splats' kernels, with distortion and median
// depth. Channels run over blockIdx.y in the forward and in a loop in the backward, where a warp
// owns a window of pixels and adds over its lanes.
#include "cuda/surfel.h"

#include "cuda/raster_square.cuh"
#include "math/surfel_blend.h"

namespace mmc {
namespace {

constexpr int kThreads = kSquare * kSquare;
constexpr int kStage = 64;  // entries at a time

__device__ __forceinline__ SurfelRow<float> load_row(const SurfelRows& rows, int64_t r) {
  SurfelRow<float> g;
#pragma unroll
  for (int k = 0; k < 9; ++k) g.m[k / 3][k % 3] = rows.transforms[9 * r + k];
  g.x = rows.means2d[2 * r];
  g.y = rows.means2d[2 * r + 1];
  g.opacity = rows.opacities[r];
  return g;
}

template <int DP>
__global__ __launch_bounds__(kThreads) void forward_kernel(RasterTiles tiles, SurfelRows rows,
                                                           SurfelOut out) {
  __shared__ SurfelRow<float> s_rows[kStage];
  __shared__ int64_t s_ids[kStage];
  __shared__ unsigned s_hits[kStage];
  const Square sq = square_of(tiles, blockIdx.x);
  const int subs = subs_of(tiles), warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int lx = window_x(warp, lane), ly = window_y(warp, lane), j = threadIdx.x;
  const bool inside = lx < sq.w && ly < sq.h, first_pass = blockIdx.y == 0;
  const float u = static_cast<float>(sq.x0 + lx) + 0.5f;
  const float v = static_cast<float>(sq.y0 + ly) + 0.5f;
  const int64_t c0 = int64_t(blockIdx.y) * DP, channels = rows.channels;
  SurfelPixel<float> s{};
  s.t = 1.0f;
  int32_t last = -1, median_at = -1;
  bool done = !inside;
  float color[DP];
#pragma unroll
  for (int k = 0; k < DP; ++k) color[k] = 0.0f;
  for (int64_t begin = sq.begin; begin < sq.end; begin += kStage) {
    if (__syncthreads_and(done)) break;
    const int n = static_cast<int>(min_(int64_t(kStage), sq.end - begin));
    if (j < n) {
      int64_t r;
      const bool found = find_row(tiles, begin + j, r);
      s_ids[j] = found ? r : -1;
      if (found) s_rows[j] = load_row(rows, r);
      s_hits[j] = 0;
    }
    __syncthreads();
    for (int i = 0; i < n && !__all_sync(kAllLanes, done); ++i) {
      if (s_ids[i] < 0) continue;
      const auto e = eval_surfel<float, float>(s_rows[i], u, v);
      const bool met = e.hit && !done;
      const float next = s.t * (1.0f - e.alpha);
      const bool blended = met && next > Splat<float>::t_stop;
      done = done || (met && !blended);
      if (!__any_sync(kAllLanes, blended)) continue;
      if (first_pass && lane == 0) atomicOr(&s_hits[i], 1u << warp);
      if (!blended) continue;
      const float weight = e.alpha * s.t;
      const float* f = rows.features + s_ids[i] * channels + c0;
#pragma unroll
      for (int k = 0; k < DP; ++k)
        if (c0 + k < channels) color[k] = fmaf(weight, __ldg(f + k), color[k]);
      const int32_t at = static_cast<int32_t>(begin - sq.begin + i);
      if (s.t > 0.5f) median_at = at;
      blend_surfel(s, weight, e.depth, next);
      last = at;
    }
    __syncthreads();
    if (first_pass && j < n)
      out.hits[(begin + j) * subs + sq.sub] = static_cast<uint16_t>(s_hits[j]);
  }
  if (!inside) return;
  const int64_t p = sq.pixel + ly * sq.stride + lx;
  if (first_pass) {
    out.final_t[p] = s.t;
    out.alphas[p] = 1.0f - s.t;
    out.distortion[p] = s.distortion;
    out.median[p] = s.median;
    out.moments[2 * p] = s.m1;
    out.moments[2 * p + 1] = s.m2;
    out.last[2 * p] = last;
    out.last[2 * p + 1] = median_at;
  }
  const float* background = rows.backgrounds ? rows.backgrounds + sq.image * channels : nullptr;
#pragma unroll
  for (int k = 0; k < DP; ++k) {
    if (c0 + k < channels)
      out.renders[p * channels + c0 + k] =
          background ? fmaf(s.t, background[c0 + k], color[k]) : color[k];
  }
}

constexpr int kBackwardThreads = 128;
static_assert(kSurfelSums == kSurfelTerms);

__global__ __launch_bounds__(kBackwardThreads) void backward_kernel(RasterTiles tiles,
                                                                    SurfelRows rows,
                                                                    SurfelGradIo io,
                                                                    int64_t n_windows) {
  const int lane = threadIdx.x % kWarp;
  const int64_t index = thread_index() / kWarp;
  if (index >= n_windows) return;  // whole warps leave
  const Square sq = square_of(tiles, index / kWindows);
  const int window = static_cast<int>(index % kWindows), subs = subs_of(tiles);
  const int lx = window_x(window, lane), ly = window_y(window, lane);
  const bool inside = lx < sq.w && ly < sq.h, own = io.slots != nullptr;
  const float u = static_cast<float>(sq.x0 + lx) + 0.5f;
  const float v = static_cast<float>(sq.y0 + ly) + 0.5f;
  const int64_t channels = rows.channels, p = sq.pixel + ly * sq.stride + lx;
  SurfelBackward<float> s{};
  s.t = 1.0f;
  int32_t last = -1, median_at = -1;
  if (inside) {
    float g = io.v_alphas[p];
    if (rows.backgrounds)
      for (int64_t k = 0; k < channels; ++k)
        g -= rows.backgrounds[sq.image * channels + k] * io.v_renders[p * channels + k];
    s.t = io.final_t[p];
    s.rest = s.t * g;
    s.total = 1.0f - s.t;
    s.m1 = io.moments[2 * p];
    s.m2 = io.moments[2 * p + 1];
    s.v_distortion = io.v_distortion[p];
    s.v_median = io.v_median[p];
    last = io.last[2 * p];
    median_at = io.last[2 * p + 1];
  }
  const int32_t deepest = warp_max(last);
  for (int64_t top = deepest; top >= 0; top -= kWarp) {
    const int64_t mine = top - lane;
    const bool hit =
        mine >= 0 && (io.hits[(sq.begin + mine) * subs + sq.sub] >> window) & 1;
    unsigned todo = __ballot_sync(kAllLanes, hit);
    while (todo) {  // lane order: back to front
      const int32_t at = static_cast<int32_t>(top - (__ffs(todo) - 1));
      todo &= todo - 1;
      const int64_t entry = (sq.begin + at) * subs + sq.sub;
      const int64_t r = row_of(tiles, sq.begin + at);
      const SurfelRow<float> g = load_row(rows, r);
      const auto e = eval_surfel<float, float>(g, u, v);
      const bool valid = e.hit && at <= last;
      const float* f = rows.features + r * channels;
      const float* vr = io.v_renders + p * channels;
      float sums[kSurfelSums] = {}, weight = 0.0f;
      if (valid) {
        float product = 0.0f;
        for (int64_t k = 0; k < channels; ++k) product = fmaf(__ldg(f + k), vr[k], product);
        const SurfelStep<float> step = surfel_backward_step(s, e, product, at == median_at);
        weight = step.weight;
        const auto grad =
            surfel_vjp<float, float>(g, e, u, v, -step.q * g.opacity, step.g_depth);
#pragma unroll
        for (int k = 0; k < 9; ++k) sums[kTransform + k] = grad.m[k / 3][k % 3];
        sums[kCentre] = grad.x;
        sums[kCentre + 1] = grad.y;
        sums[kOpacity] = step.q;
      }
      const int64_t slot =
          own ? io.slots[entry] + __popc(io.hits[entry] & ((1u << window) - 1u)) : r;
      float* target = io.sums + slot * io.stride;
#pragma unroll
      for (int k = 0; k < kSurfelSums; ++k) {
        const float sum = warp_sum(sums[k]);
        if (lane == k) {
          if (own)
            target[k] = sum;
          else
            atomicAdd(target + k, sum);
        }
      }
      for (int64_t k = 0; k < channels; ++k) {
        const float sum = warp_sum(weight != 0.0f ? weight * vr[k] : 0.0f);
        if (lane == 0) {
          if (own)
            target[kSurfelSums + k] = sum;
          else
            atomicAdd(target + kSurfelSums + k, sum);
        }
      }
    }
  }
}

template <int DP>
void run(const RasterTiles& tiles, const SurfelRows& rows, const SurfelOut& out,
         cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(tiles.squares()),
                  static_cast<unsigned>((rows.channels + DP - 1) / DP));
  forward_kernel<DP><<<grid, kThreads, 0, stream>>>(tiles, rows, out);
}

}  // namespace

cudaError_t launch_surfel_fwd(const RasterTiles& tiles, const SurfelRows& rows,
                              const SurfelOut& out, cudaStream_t stream) {
  if (tiles.squares() == 0) return cudaSuccess;
  if (rows.channels <= 4)
    run<4>(tiles, rows, out, stream);
  else if (rows.channels <= 16)
    run<16>(tiles, rows, out, stream);
  else
    run<32>(tiles, rows, out, stream);
  return cudaGetLastError();
}

cudaError_t launch_surfel_bwd(const RasterTiles& tiles, const SurfelRows& rows,
                              const SurfelGradIo& io, cudaStream_t stream) {
  const int64_t n_windows = tiles.squares() * kWindows;
  if (n_windows == 0) return cudaSuccess;
  backward_kernel<<<blocks_for(n_windows * kWarp, kBackwardThreads), kBackwardThreads, 0,
                    stream>>>(tiles, rows, io, n_windows);
  return cudaGetLastError();
}

}  // namespace mmc
