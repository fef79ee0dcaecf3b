// Tile kernels for up to four channels: everything about a pixel stays in registers.
// Included inside the target region of rasterize_isa_*.cpp.
//
// A tile of 16 x 16 pixels is cut into 16 blocks of 4 x 4 pixels, one vector each. Block b has
// column b / 4 and row b % 4. Forward: per block, the entries whose level set meets the block,
// front to back. Backward: per entry, the blocks that it reached, entries back to front.
#pragma once
#include "cpu/rasterize_kernels.h"
#include "math/alpha.h"
#include "math/intersect.h"
#include "math/pack.h"

namespace mmc {
namespace MMC_ISA_NS {

constexpr int kBlocks = 16;

MMC_HD int pixel_block(int x, int y) { return (x >> 2) * 4 + (y >> 2); }
MMC_HD int pixel_lane(int x, int y) { return (y & 3) * 4 + (x & 3); }

// Centres of the pixels of block 0 of a tile.
template <typename T>
MMC_HD void lane_centres(const TileJob& job, T* x, T* y) {
  for (int l = 0; l < kLanes; ++l) {
    x[l] = T(job.x0 + (l & 3)) + T(0.5);
    y[l] = T(job.y0 + (l >> 2)) + T(0.5);
  }
}

// Lanes of block b inside the image.
MMC_HD unsigned inside_bits(const TileJob& job, int b) {
  unsigned bits = 0;
  for (int l = 0; l < kLanes; ++l) {
    const int x = (b >> 2) * 4 + (l & 3), y = (b & 3) * 4 + (l >> 2);
    bits |= unsigned(x < job.w && y < job.h) << l;
  }
  return bits;
}

MMC_HD int64_t row_of(const int32_t* ids32, const int64_t* ids64, int64_t i) {
  return ids32 ? ids32[i] : ids64[i];
}

template <typename T>
struct Quad {
  typedef T V __attribute__((vector_size(4 * sizeof(T))));
  typedef typename IntOf<T>::type I __attribute__((vector_size(4 * sizeof(T))));
  static MMC_HD V sqrt(V a) {
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) return (V)_mm_sqrt_ps((__m128)a);
#endif
    for (int l = 0; l < 4; ++l) a[l] = sqrt_(a[l]);
    return a;
  }
  static MMC_HD unsigned bits(I m) {
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) return unsigned(_mm_movemask_ps((__m128)m));
#endif
    unsigned out = 0;
    for (int l = 0; l < 4; ++l) out |= unsigned(m[l] != 0) << l;
    return out;
  }
};

// Blocks of a tile whose pixel centres' hull meets the level set; four block rows at a time.
template <typename T>
MMC_HD unsigned block_mask(const SplatRecord<T>& s, T x0, T y0) {
  using Q = Quad<T>;
  using V = typename Q::V;
  const V zero{};
  const V rows = {T(0.5), T(4.5), T(8.5), T(12.5)};
  const V top = rows + (y0 - s.y), bottom = top + T(3);
  const V reach = zero + s.half_y, skew = zero + s.skew;
  const V h0 = top > -reach ? top : -reach;
  const V h1 = bottom < reach ? bottom : reach;
  const auto met = h0 <= h1;
  V right = skew < h1 ? skew : h1;
  right = right > h0 ? right : h0;
  V left = -skew < h1 ? -skew : h1;
  left = left > h0 ? left : h0;
  V right_arg = s.ta - s.da * right * right, left_arg = s.ta - s.da * left * left;
  right_arg = right_arg > zero ? right_arg : zero;
  left_arg = left_arg > zero ? left_arg : zero;
  right = s.slope * right + Q::sqrt(right_arg);
  left = s.slope * left - Q::sqrt(left_arg);
  const T x = x0 + T(0.5) - s.x;
  unsigned mask = 0;
  MMC_UNROLL for (int c = 0; c < 4; ++c) {
    const auto m = met & (right >= zero + (x + T(4 * c))) & (left <= zero + (x + T(4 * c + 3)));
    mask |= Q::bits((typename Q::I)m) << (4 * c);
  }
  return mask;
}

// The entries of one chunk and, per block, which of them may reach it.
template <typename T>
struct Chunk {
  alignas(64) SplatRecord<T> records[kMaxChunk];
  uint8_t lists[kBlocks][kMaxChunk];
  int counts[kBlocks];
  uint16_t hits[kMaxChunk];

  MMC_HD void stage(const RasterIn<T>& in, int64_t begin, int n, T x0, T y0, unsigned live) {
    for (int b = 0; b < kBlocks; ++b) counts[b] = 0;
    for (int j = 0; j < n; ++j) {
#if defined(__GNUC__)
      if (j + 12 < n)
        __builtin_prefetch(&in.records[row_of(in.ids32, in.ids64, begin + j + 12)]);
#endif
      records[j] = in.records[row_of(in.ids32, in.ids64, begin + j)];
      hits[j] = 0;
      unsigned mask = block_mask(records[j], x0, y0) & live;
      while (mask) {
        const int b = __builtin_ctz(mask);
        mask &= mask - 1;
        lists[b][counts[b]++] = static_cast<uint8_t>(j);
      }
    }
  }
};

template <typename T>
MMC_HD ScaledConic<Lanes<T>> lanes_of_conic(const SplatRecord<T>& s) {
  using F = Lanes<T>;
  return {F(s.a), F(s.b), F(s.c)};
}

// D = 0: the number of channels is only known at run time.
template <typename T, int D>
MMC_HD void write_pixels(const RasterIn<T>& in, const ForwardOut<T>& out, const TileJob& job,
                         const T (*t)[kLanes], const T (*last)[kLanes], const T* color) {
  const int64_t d = D ? D : in.channels;
  const T* background = in.backgrounds ? in.backgrounds + job.image * d : nullptr;
  for (int y = 0; y < job.h; ++y) {
    for (int x = 0; x < job.w; ++x) {
      const int b = pixel_block(x, y), l = pixel_lane(x, y);
      const int64_t p = job.pixel + y * job.row_stride + x;
      const T final_t = t[b][l];
      out.final_t[p] = final_t;
      out.alphas[p] = T(1) - final_t;
      out.last[p] = static_cast<int32_t>(last[b][l]);
      T* dst = out.renders + p * d;
      const T* src = color + b * d * kLanes + l;
      if (background)
        for (int64_t k = 0; k < d; ++k) dst[k] = src[k * kLanes] + final_t * background[k];
      else
        for (int64_t k = 0; k < d; ++k) dst[k] = src[k * kLanes];
    }
  }
}

template <typename T, int D, bool Stats>
void forward_few(const RasterIn<T>& in, const ForwardOut<T>& out, const TileJob& job, T*) {
  using F = Lanes<T>;
  using M = typename F::M;
  alignas(64) T t_state[kBlocks][kLanes], last_state[kBlocks][kLanes];
  alignas(64) T c_state[kBlocks][D][kLanes];
  alignas(64) T lane_x[kLanes], lane_y[kLanes];
  unsigned alive_state[kBlocks];
  Chunk<T> chunk;
  lane_centres(job, lane_x, lane_y);
  const F base_x = F::load(lane_x), base_y = F::load(lane_y), t_stop(in.t_stop);
  unsigned live = 0;
  for (int b = 0; b < kBlocks; ++b) {
    F(T(1)).store(t_state[b]);
    F(T(-1)).store(last_state[b]);
    for (int k = 0; k < D; ++k) F(T(0)).store(c_state[b][k]);
    alive_state[b] = inside_bits(job, b);
    live |= unsigned(alive_state[b] != 0) << b;
  }
  int64_t begin = job.begin;
  for (; begin < job.end && live; begin += kMaxChunk) {
    const int n = static_cast<int>(min_<int64_t>(kMaxChunk, job.end - begin));
    chunk.stage(in, begin, n, T(job.x0), T(job.y0), live);
    for (int b = 0; b < kBlocks; ++b) {
      const int count = chunk.counts[b];
      if (count == 0) continue;
      const F px = base_x + F(T(4 * (b >> 2))), py = base_y + F(T(4 * (b & 3)));
      F t = F::load(t_state[b]), last = F::load(last_state[b]);
      F color[D];
      MMC_UNROLL for (int k = 0; k < D; ++k) color[k] = F::load(c_state[b][k]);
      M alive = M::from_bits(alive_state[b]);
      const T first = T(begin - job.begin);
      for (int e = 0; e < count; ++e) {
        const int j = chunk.lists[b][e];
        const SplatRecord<T>& s = chunk.records[j];
        const auto a =
            eval_alpha<F, T>(lanes_of_conic(s), F(s.x) - px, F(s.y) - py, F(s.opacity));
        const M met = a.hit & alive;
        const F next = t * (F(T(1)) - a.alpha);
        const M blended = met & gt(next, t_stop);
        const F weight = keep(blended, a.alpha * t);
        MMC_UNROLL for (int k = 0; k < D; ++k) color[k] = fma(weight, F(s.color[k]), color[k]);
        const unsigned reached = bits(blended);
        chunk.hits[j] |= static_cast<uint16_t>(unsigned(reached != 0) << b);
        if constexpr (Stats) {
          const int64_t slot = (begin + j) * in.subs + job.sub;
          out.touched[slot] += __builtin_popcount(bits(blended & gt(t, F(T(0.5)))));
          out.peak[slot] = max_(out.peak[slot], max_lane(weight));
        }
        t = select(blended, next, t);
        last = select(blended, F(first + T(j)), last);
        const M stopped = and_not(met, blended);
        if (__builtin_expect(bits(stopped) != 0, 0)) {
          alive = and_not(alive, stopped);
          if (bits(alive) == 0) break;
        }
      }
      t.store(t_state[b]);
      last.store(last_state[b]);
      MMC_UNROLL for (int k = 0; k < D; ++k) color[k].store(c_state[b][k]);
      alive_state[b] = bits(alive);
      if (alive_state[b] == 0) live &= ~(1u << b);
    }
    for (int j = 0; j < n; ++j) out.hits[(begin + j) * in.subs + job.sub] = chunk.hits[j];
  }
  for (; begin < job.end; ++begin) out.hits[begin * in.subs + job.sub] = 0;
  write_pixels<T, D>(in, out, job, t_state, last_state, &c_state[0][0][0]);
}

// Per-pixel state of the backward walk. The scalar S = T_final (g_alpha - background . v) minus
// the weighted colour products seen so far replaces any per-channel state.
template <typename T>
struct PixelState {
  alignas(64) T t[kBlocks][kLanes], s[kBlocks][kLanes], last[kBlocks][kLanes];
};

// Reads the gradients of one tile; v is [block][channel][lane].
template <typename T, int D>
MMC_HD void read_pixels(const RasterIn<T>& in, const BackwardIO<T>& io, const TileJob& job,
                        PixelState<T>& state, T* v) {
  const int64_t d = D ? D : in.channels;
  const T* background = in.backgrounds ? in.backgrounds + job.image * d : nullptr;
  if (job.w < kTile || job.h < kTile) {
    for (int b = 0; b < kBlocks; ++b)
      for (int l = 0; l < kLanes; ++l) {
        state.t[b][l] = T(1);
        state.s[b][l] = T(0);
        state.last[b][l] = T(-1);
      }
    for (int64_t i = 0; i < kBlocks * d * kLanes; ++i) v[i] = T(0);
  }
  for (int y = 0; y < job.h; ++y) {
    for (int x = 0; x < job.w; ++x) {
      const int b = pixel_block(x, y), l = pixel_lane(x, y);
      const int64_t p = job.pixel + y * job.row_stride + x;
      const T final_t = io.final_t[p];
      const T* src = io.v_renders + p * d;
      T* dst = v + b * d * kLanes + l;
      T g = io.v_alphas[p];
      for (int64_t k = 0; k < d; ++k) dst[k * kLanes] = src[k];
      if (background)
        for (int64_t k = 0; k < d; ++k) g -= background[k] * src[k];
      if (io.v_backgrounds)
        for (int64_t k = 0; k < d; ++k) io.v_backgrounds[k] += final_t * src[k];
      state.t[b][l] = final_t;
      state.s[b][l] = final_t * g;
      state.last[b][l] = T(io.last[p]);
    }
  }
}

template <typename T, int D, bool Geometry, bool Absolute>
void backward_few(const RasterIn<T>& in, const BackwardIO<T>& io, const TileJob& job, T*) {
  using F = Lanes<T>;
  using M = typename F::M;
  // The channels stand between the moments and the absolute sums.
  constexpr int kSums = kAlphaSums + D + (Absolute ? 2 : 0);
  PixelState<T> state;
  alignas(64) T v[kBlocks][D][kLanes];
  alignas(64) T lane_x[kLanes], lane_y[kLanes];
  alignas(64) T centre_x[4][kLanes], centre_y[4][kLanes];
  lane_centres(job, lane_x, lane_y);
  for (int k = 0; k < 4; ++k)
    for (int l = 0; l < kLanes; ++l) {
      centre_x[k][l] = lane_x[l] + T(4 * k);
      centre_y[k][l] = lane_y[l] + T(4 * k);
    }
  read_pixels<T, D>(in, io, job, state, &v[0][0][0]);
  for (int64_t i = job.end - 1; i >= job.begin; --i) {
    const int64_t entry = i * in.subs + job.sub;
#if defined(__GNUC__)
    if (i - 12 >= job.begin) {
      __builtin_prefetch(&in.records[row_of(in.ids32, in.ids64, i - 12)]);
      __builtin_prefetch(io.partials + io.slots[entry - 12 * in.subs] * io.stride, 1);
    }
#endif
    unsigned mask = io.hits[entry];
    if (mask == 0) continue;
    const SplatRecord<T>& s = in.records[row_of(in.ids32, in.ids64, i)];
    const ScaledConic<F> conic = lanes_of_conic(s);
    const F mean_x(s.x), mean_y(s.y), opacity(s.opacity), index(T(i - job.begin));
    F acc[kSums];
    MMC_UNROLL for (int k = 0; k < kSums; ++k) acc[k] = F(T(0));
    do {
      const int b = __builtin_ctz(mask);
      mask &= mask - 1;
      const auto a = eval_alpha<F, T>(conic, mean_x - F::load(centre_x[b >> 2]),
                                      mean_y - F::load(centre_y[b & 3]), opacity);
      const M valid = a.hit & le(index, F::load(state.last[b]));
      const F ra = reciprocal(F(T(1)) - a.alpha);
      const F t_after = F::load(state.t[b]);
      const F t = t_after * ra;
      const F weight = keep(valid, a.alpha * t);
      F d(T(0));
      MMC_UNROLL for (int k = 0; k < D; ++k) {
        const F vk = F::load(v[b][k]);
        acc[kAlphaSums + k] = fma(weight, vk, acc[kAlphaSums + k]);
        if constexpr (Geometry) d = k == 0 ? F(s.color[0]) * vk : fma(F(s.color[k]), vk, d);
      }
      select(valid, t, t_after).store(state.t[b]);
      if constexpr (Geometry) {
        const F rest = F::load(state.s[b]);
        const F g = fma(t, d, ra * rest);
        (rest - weight * d).store(state.s[b]);
        const F q = keep(valid & le(a.raw, F(Splat<T>::alpha_max)), g * a.visibility);
        const F qx = q * a.dx, qy = q * a.dy;
        acc[kQ] = acc[kQ] + q;
        acc[kQx] = acc[kQx] + qx;
        acc[kQy] = acc[kQy] + qy;
        acc[kQxx] = fma(qx, a.dx, acc[kQxx]);
        acc[kQxy] = fma(qx, a.dy, acc[kQxy]);
        acc[kQyy] = fma(qy, a.dy, acc[kQyy]);
        if constexpr (Absolute) {
          const F two_a = conic.a + conic.a, two_c = conic.c + conic.c;
          const F size = abs(q);
          acc[kAbsX + D] = fma(size, abs(fma(two_a, a.dx, conic.b * a.dy)), acc[kAbsX + D]);
          acc[kAbsY + D] = fma(size, abs(fma(conic.b, a.dx, two_c * a.dy)), acc[kAbsY + D]);
        }
      }
    } while (mask);
    F::sums(acc, io.partials + io.slots[entry] * io.stride);
  }
}

}  // namespace MMC_ISA_NS
}  // namespace mmc
