// Compositing, backward. A warp owns a window of 8 x 4 pixels and walks, back to front, the list
// entries that the forward recorded as having reached it. Entries are taken in batches. A batch
// is worked on twice: lanes are pixels while blending is undone, which leaves a matrix of blending
// weights and one of alpha gradients in shared memory; then lanes are entries (or channels) and
// sum over pixels, so that sums need no shuffles and one group of atomics per entry and window.
#include "cuda/raster_square.cuh"
#include "math/blend.h"

namespace mmc {
namespace {

constexpr int kWarps = 4;          // per block; warps do not depend on each other
constexpr int kPitch = kWarp + 4;  // floats per row of a matrix: rows stay aligned to 16 bytes

// Per warp, the next entries that reached the window, as positions in the list, descending.
struct Pending {
  int32_t* list;  // shared, at least batch + 32
  int count;
  int64_t top;    // next position to look at

  __device__ void init(int32_t* shared, int64_t start) {
    list = shared;
    count = 0;
    top = start;
  }
  // Looks at list positions until `batch` entries wait or the list ends.
  __device__ void fill(const RasterTiles& tiles, const uint16_t* hits, const Square& sq,
                       int window, int lane, int batch) {
    const int subs = subs_of(tiles);
    while (count < batch && top >= 0) {
      const int64_t at = top - lane;
      const bool hit = at >= 0 && (hits[(sq.begin + at) * subs + sq.sub] >> window) & 1;
      const unsigned found = __ballot_sync(kAllLanes, hit);
      if (hit) list[count + __popc(found & ((1u << lane) - 1u))] = static_cast<int32_t>(at);
      count += __popc(found);
      top -= kWarp;
    }
    __syncwarp();
  }
  // Drops the first n entries; at most 32 remain.
  __device__ void drop(int n, int lane) {
    __syncwarp();
    const int32_t moved = n + lane < count ? list[n + lane] : 0;
    __syncwarp();
    if (n + lane < count) list[lane] = moved;
    count -= n;
    __syncwarp();
  }
};

// Geometry of the entries of a batch, in shared memory.
struct alignas(16) Entry {
  float x, y, opacity;
  int32_t position;
  float a, b, c, unused;
};

__device__ __forceinline__ Entry load_entry(const RasterRows& rows, int64_t r, int32_t position) {
  const ScaledConic<float> q =
      scale_conic(rows.conics[3 * r], rows.conics[3 * r + 1], rows.conics[3 * r + 2]);
  return {rows.means2d[2 * r], rows.means2d[2 * r + 1], rows.opacities[r], position,
          q.a,                 q.b,                     q.c,               0.0f};
}

__device__ __forceinline__ auto eval_entry(const Entry& e, float px, float py) {
  return eval_alpha<float, float>(ScaledConic<float>{e.a, e.b, e.c}, e.x - px, e.y - py,
                                  e.opacity);
}

// A pixel's state at the end of the forward.
struct PixelStart {
  BlendState<float> state;
  int32_t last;
};
__device__ __forceinline__ PixelStart read_pixel(const RasterTiles& tiles, const RasterRows& rows,
                                                 const RasterGradIo& io, const Square& sq,
                                                 bool inside, int64_t p) {
  PixelStart o{{1.0f, 0.0f}, -1};
  if (!inside) return o;
  float g = io.v_alphas[p];
  if (rows.backgrounds) {
    const float* background = rows.backgrounds + sq.image * rows.channels;
    const float* v = io.v_renders + p * rows.channels;
    for (int64_t k = 0; k < rows.channels; ++k) g -= background[k] * v[k];
  }
  o.state.t = io.final_t[p];
  o.state.rest = o.state.t * g;
  o.last = io.last[p];
  return o;
}

// Where the sums of an entry go: its row, or the slot of (entry, square, window).
__device__ __forceinline__ int64_t target_row(const RasterTiles& tiles, const RasterGradIo& io,
                                              const Square& sq, int window, int64_t entry,
                                              int64_t row) {
  if (!io.slots) return row;
  const int64_t at = entry * subs_of(tiles) + sq.sub;
  return io.slots[at] + __popc(io.hits[at] & ((1u << window) - 1u));
}

__device__ __forceinline__ void put(float* target, float value, bool own) {
  if (own)
    *target = value;
  else
    atomicAdd(target, value);
}

// Moments to a 16-byte aligned row.
static_assert(kAllSums == kMomentWidth && kQxy == 4);
__device__ __forceinline__ void put_moments(float* target, const AlphaMoments<float>& m, float ax,
                                            float ay, bool own, bool absolute) {
  if (own) {
    reinterpret_cast<float4*>(target)[0] = make_float4(m.q, m.qx, m.qy, m.qxx);
    reinterpret_cast<float4*>(target)[1] = make_float4(m.qxy, m.qyy, ax, ay);
    return;
  }
  add4(target, m.q, m.qx, m.qy, m.qxx);
  if (absolute) {
    add4(target + kQxy, m.qxy, m.qyy, ax, ay);
  } else {
    atomicAdd(target + kQxy, m.qxy);
    atomicAdd(target + kQyy, m.qyy);
  }
}

// Channels behind the moments; rows are padded to groups of four.
template <int DP>
__device__ __forceinline__ void put_colors(float* target, const float (&color)[DP],
                                           int64_t channels, bool own) {
#if __CUDA_ARCH__ >= 900
  if (!own && DP >= 3) {
#pragma unroll
    for (int k = 0; k < DP; k += 4)
      if (k < channels)
        add4(target + k, color[k], k + 1 < DP ? color[k + 1] : 0.0f,
             k + 2 < DP ? color[k + 2] : 0.0f, k + 3 < DP ? color[k + 3] : 0.0f);
    return;
  }
#endif
#pragma unroll
  for (int k = 0; k < DP; ++k)
    if (k < channels) put(target + k, color[k], own);
}

// ------------------------------------------------------------------ up to 16 channels

constexpr int kFewBatch = 16;  // entries; two lanes share one while summing

template <int DP>
struct FewShared {
  float weights[kFewBatch][kPitch], q[kFewBatch][kPitch];
  Entry entries[kFewBatch];
  float colors[kFewBatch][DP];
  float v[kWarp][DP];  // gradients of the pixels
  int64_t rows[kFewBatch];
  int32_t pending[kFewBatch + kWarp];
};

template <int DP>
__global__ __launch_bounds__(kWarps* kWarp) void backward_few(RasterTiles tiles, RasterRows rows,
                                                              RasterGradIo io, int64_t n_windows) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  const int lane = threadIdx.x % kWarp;
  FewShared<DP>& s = reinterpret_cast<FewShared<DP>*>(shared_bytes)[threadIdx.x / kWarp];
  const int64_t index = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (index >= n_windows) return;  // whole warps leave
  const Square sq = square_of(tiles, index / kWindows);
  const int window = static_cast<int>(index % kWindows);
  const int lx = window_x(window, lane), ly = window_y(window, lane);
  const bool inside = lx < sq.w && ly < sq.h;
  const float first_x = static_cast<float>(sq.x0 + window_x(window, 0)) + 0.5f;
  const float first_y = static_cast<float>(sq.y0 + window_y(window, 0)) + 0.5f;
  const float px = first_x + static_cast<float>(lane & 7);
  const float py = first_y + static_cast<float>(lane >> 3);
  const int64_t channels = rows.channels, p = sq.pixel + ly * sq.stride + lx;
  const PixelStart start = read_pixel(tiles, rows, io, sq, inside, p);
  const int32_t deepest = warp_max(start.last);
  if (deepest < 0) return;
  BlendState<float> state = start.state;
  float v[DP];
#pragma unroll
  for (int k = 0; k < DP; ++k) {
    v[k] = inside && k < channels ? io.v_renders[p * channels + k] : 0.0f;
    s.v[lane][k] = v[k];
  }
  Pending pending;
  pending.init(s.pending, deepest);
  for (;;) {
    pending.fill(tiles, io.hits, sq, window, lane, kFewBatch);
    const int n = min_(pending.count, kFewBatch);
    if (n == 0) break;
    if (lane < n) {
      const int32_t at = pending.list[lane];
      const int64_t r = row_of(tiles, sq.begin + at);
      s.rows[lane] = r;
      s.entries[lane] = load_entry(rows, r, at);
#pragma unroll
      for (int k = 0; k < DP; ++k)
        s.colors[lane][k] = k < channels ? rows.colors[r * channels + k] : 0.0f;
    }
    __syncwarp();
    for (int i = 0; i < n; ++i) {  // lanes are pixels
      const Entry e = s.entries[i];
      const auto eval = eval_entry(e, px, py);
      BlendGrad<float> g{0.0f, 0.0f};
      if (eval.hit && e.position <= start.last) {
        float product = 0.0f;
#pragma unroll
        for (int k = 0; k < DP; ++k) product = fmaf(s.colors[i][k], v[k], product);
        g = blend_vjp(eval, product, state);
      }
      s.weights[i][lane] = g.weight;
      s.q[i][lane] = g.q;
    }
    __syncwarp();
    // Lanes are entries, two to one: each sums over half of the pixels.
    const int i = lane % kFewBatch, half = lane / kFewBatch;
    AlphaMoments<float> m{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    float ax = 0.0f, ay = 0.0f, color[DP];
#pragma unroll
    for (int k = 0; k < DP; ++k) color[k] = 0.0f;
    if (i < n) {
      const Entry e = s.entries[i];
      const ScaledConic<float> conic{e.a, e.b, e.c};
      for (int quad = 4 * half; quad < 4 * half + 4; ++quad) {  // four pixels of a row
        const float4 w4 = *reinterpret_cast<const float4*>(&s.weights[i][4 * quad]);
        const float4 q4 = *reinterpret_cast<const float4*>(&s.q[i][4 * quad]);
        const float w[4] = {w4.x, w4.y, w4.z, w4.w}, q[4] = {q4.x, q4.y, q4.z, q4.w};
        const float dy = e.y - (first_y + static_cast<float>(quad >> 1));
        const float left = e.x - (first_x + static_cast<float>(4 * (quad & 1)));
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float dx = left - static_cast<float>(k);
          if (io.geometry) add_moments(m, q[k], dx, dy);
          if (io.absolute) add_absolute(ax, ay, conic, q[k], dx, dy);
#pragma unroll
          for (int c = 0; c < DP; ++c) color[c] = fmaf(w[k], s.v[4 * quad + k][c], color[c]);
        }
      }
    }
    float* sums[kAllSums] = {&m.q, &m.qx, &m.qy, &m.qxx, &m.qxy, &m.qyy, &ax, &ay};
#pragma unroll
    for (int k = 0; k < kAllSums; ++k) *sums[k] += __shfl_xor_sync(kAllLanes, *sums[k], kFewBatch);
#pragma unroll
    for (int k = 0; k < DP; ++k) color[k] += __shfl_xor_sync(kAllLanes, color[k], kFewBatch);
    if (i < n) {
      const bool own = io.slots != nullptr;
      const int64_t r =
          target_row(tiles, io, sq, window, sq.begin + s.entries[i].position, s.rows[i]);
      float* target = io.moments + r * io.stride;
      if (half == 0 && (io.geometry || own)) put_moments(target, m, ax, ay, own, io.absolute);
      if (half == 1 && (io.features || own))
        put_colors<DP>(target + kMomentWidth, color, channels, own);
    }
    pending.drop(n, lane);
  }
}

// ------------------------------------------------------------------ any number of channels

constexpr int kManyBatch = 32;

struct ManyShared {
  float matrix[kManyBatch][kPitch];  // weights, then color . g_color, then q
  Entry entries[kManyBatch];
  int64_t rows[kManyBatch], targets[kManyBatch];
  int32_t pending[kManyBatch + kWarp];
};

// products[i][pixel] = colors of entry i . gradient of the lane's pixel, for eight entries.
template <bool Vec>
__device__ __forceinline__ void color_products(ManyShared& s, const RasterRows& rows, int first,
                                               int n, const float* v, bool inside, int lane) {
  constexpr int kGroup = 8;
  const int64_t channels = rows.channels;
  const float* f[kGroup];
  float sum[kGroup];
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    f[i] = rows.colors + s.rows[min_(first + i, n - 1)] * channels;
    sum[i] = 0.0f;
  }
  if (Vec) {
#pragma unroll 1
    for (int64_t k = 0; k < channels; k += 4) {
      const float4 g = inside ? __ldg(reinterpret_cast<const float4*>(v + k))
                              : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        const float4 c = __ldg(reinterpret_cast<const float4*>(f[i] + k));
        sum[i] = fmaf(c.x, g.x, fmaf(c.y, g.y, fmaf(c.z, g.z, fmaf(c.w, g.w, sum[i]))));
      }
    }
  } else {
#pragma unroll 1
    for (int64_t k = 0; k < channels; ++k) {
      const float g = inside ? __ldg(v + k) : 0.0f;
#pragma unroll
      for (int i = 0; i < kGroup; ++i) sum[i] = fmaf(__ldg(f[i] + k), g, sum[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kGroup; ++i)
    if (first + i < n) s.matrix[first + i][lane] = sum[i];
}

template <bool Vec>
__global__ __launch_bounds__(kWarps* kWarp, 3) void backward_many(RasterTiles tiles, RasterRows rows,
                                                               RasterGradIo io,
                                                               int64_t n_windows) {
  __shared__ ManyShared all_shared[kWarps];
  const int lane = threadIdx.x % kWarp;
  ManyShared& s = all_shared[threadIdx.x / kWarp];
  const int64_t index = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (index >= n_windows) return;
  const Square sq = square_of(tiles, index / kWindows);
  const int window = static_cast<int>(index % kWindows);
  const int lx = window_x(window, lane), ly = window_y(window, lane);
  const bool inside = lx < sq.w && ly < sq.h, own = io.slots != nullptr;
  const float first_x = static_cast<float>(sq.x0 + window_x(window, 0)) + 0.5f;
  const float first_y = static_cast<float>(sq.y0 + window_y(window, 0)) + 0.5f;
  const float px = first_x + static_cast<float>(lane & 7);
  const float py = first_y + static_cast<float>(lane >> 3);
  const int64_t channels = rows.channels, p = sq.pixel + ly * sq.stride + lx;
  const PixelStart start = read_pixel(tiles, rows, io, sq, inside, p);
  const int32_t deepest = warp_max(start.last);
  if (deepest < 0) return;
  BlendState<float> state = start.state;
  Pending pending;
  pending.init(s.pending, deepest);
  for (;;) {
    pending.fill(tiles, io.hits, sq, window, lane, kManyBatch);
    const int n = min_(pending.count, kManyBatch);
    if (n == 0) break;
    if (lane < n) {
      const int32_t at = pending.list[lane];
      const int64_t r = row_of(tiles, sq.begin + at);
      s.rows[lane] = r;
      s.targets[lane] = target_row(tiles, io, sq, window, sq.begin + at, r);
      s.entries[lane] = load_entry(rows, r, at);
    }
    __syncwarp();
    if (io.features || own) {
      // Blending weights depend on alphas alone. Lanes are pixels.
      float t = state.t;
      for (int i = 0; i < n; ++i) {
        const Entry e = s.entries[i];
        const auto eval = eval_entry(e, px, py);
        float weight = 0.0f;
        if (eval.hit && e.position <= start.last) {
          t = blend_transmittance(t, eval.alpha);
          weight = eval.alpha * t;
        }
        s.matrix[i][lane] = weight;
      }
      __syncwarp();
      // Gradients of colours = weights^T times gradients of pixels. Lanes are channels.
      for (int64_t k0 = 0; k0 < channels; k0 += kWarp) {
        const int64_t k = k0 + lane;
        float v[kWarp];
#pragma unroll
        for (int pixel = 0; pixel < kWarp; ++pixel) {
          const int x = window_x(window, pixel), y = window_y(window, pixel);
          const bool valid = x < sq.w && y < sq.h && k < channels;
          v[pixel] = valid ? __ldg(io.v_renders + (sq.pixel + y * sq.stride + x) * channels + k)
                           : 0.0f;
        }
#pragma unroll 1
        for (int i = 0; i < n; ++i) {
          float sum = 0.0f;
#pragma unroll
          for (int pixel = 0; pixel < kWarp; pixel += 4) {
            const float4 w = *reinterpret_cast<const float4*>(&s.matrix[i][pixel]);
            sum = fmaf(w.x, v[pixel], sum);
            sum = fmaf(w.y, v[pixel + 1], sum);
            sum = fmaf(w.z, v[pixel + 2], sum);
            sum = fmaf(w.w, v[pixel + 3], sum);
          }
          if (k < channels) {
            float* target = own ? io.moments + s.targets[i] * io.stride + kMomentWidth + k
                                : io.colors + s.rows[i] * channels + k;
            put(target, sum, own);
          }
        }
      }
      __syncwarp();
      if (!(io.geometry || own)) state.t = t;  // else the loop below advances it
    }
    if (io.geometry || own) {
      const float* v = io.v_renders + p * channels;
      for (int first = 0; first < n; first += 8)
        color_products<Vec>(s, rows, first, n, v, inside, lane);
      for (int i = 0; i < n; ++i) {  // lanes are pixels; each reads and writes its own column
        const Entry e = s.entries[i];
        const auto eval = eval_entry(e, px, py);
        float q = 0.0f;
        if (eval.hit && e.position <= start.last)
          q = blend_vjp(eval, s.matrix[i][lane], state).q;
        s.matrix[i][lane] = q;
      }
      __syncwarp();
      if (lane < n) {  // lanes are entries
        const Entry e = s.entries[lane];
        const ScaledConic<float> conic{e.a, e.b, e.c};
        AlphaMoments<float> m{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        float ax = 0.0f, ay = 0.0f;
        for (int quad = 0; quad < kWarp / 4; ++quad) {
          const float4 q4 = *reinterpret_cast<const float4*>(&s.matrix[lane][4 * quad]);
          const float q[4] = {q4.x, q4.y, q4.z, q4.w};
          const float dy = e.y - (first_y + static_cast<float>(quad >> 1));
          const float left = e.x - (first_x + static_cast<float>(4 * (quad & 1)));
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            const float dx = left - static_cast<float>(k);
            add_moments(m, q[k], dx, dy);
            if (io.absolute) add_absolute(ax, ay, conic, q[k], dx, dy);
          }
        }
        put_moments(io.moments + s.targets[lane] * io.stride, m, ax, ay, own, io.absolute);
      }
    }
    pending.drop(n, lane);
  }
}

template <int DP>
cudaError_t run_few(const RasterTiles& tiles, const RasterRows& rows, const RasterGradIo& io,
                    int64_t n_windows, cudaStream_t stream) {
  constexpr int kBytes = kWarps * static_cast<int>(sizeof(FewShared<DP>));
  static_assert(kBytes <= 48 * 1024, "fits without raising the limit of shared memory");
  backward_few<DP><<<blocks_for(n_windows, kWarps), kWarps * kWarp, kBytes, stream>>>(
      tiles, rows, io, n_windows);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_rasterize_bwd(const RasterTiles& tiles, const RasterRows& rows,
                                 const RasterGradIo& io, cudaStream_t stream) {
  const int64_t n_windows = tiles.squares() * kWindows, d = rows.channels;
  if (n_windows == 0) return cudaSuccess;
  if (d == 1) return run_few<1>(tiles, rows, io, n_windows, stream);
  if (d == 2) return run_few<2>(tiles, rows, io, n_windows, stream);
  if (d == 3) return run_few<3>(tiles, rows, io, n_windows, stream);
  if (d == 4) return run_few<4>(tiles, rows, io, n_windows, stream);
  if (d <= 8) return run_few<8>(tiles, rows, io, n_windows, stream);
  if (d <= kFewBackward) return run_few<kFewBackward>(tiles, rows, io, n_windows, stream);
  const bool vec = d % 4 == 0 && (reinterpret_cast<uintptr_t>(rows.colors) |
                                  reinterpret_cast<uintptr_t>(io.v_renders)) % 16 == 0;
  const unsigned blocks = blocks_for(n_windows, kWarps);
  if (vec)
    backward_many<true><<<blocks, kWarps * kWarp, 0, stream>>>(tiles, rows, io, n_windows);
  else
    backward_many<false><<<blocks, kWarps * kWarp, 0, stream>>>(tiles, rows, io, n_windows);
  return cudaGetLastError();
}

}  // namespace mmc
