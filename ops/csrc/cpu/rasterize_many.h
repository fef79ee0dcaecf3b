// Tile kernels for any number of channels: blending weights are computed once per block and the
// channels follow as small matrix products (weights times features, and their transposes).
// Included inside the target region of rasterize_isa_*.cpp.
#pragma once
#include "cpu/rasterize_few.h"

namespace mmc {
namespace MMC_ISA_NS {

MMC_HD int64_t padded(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// Fewer entries at a time when features are long, so that a chunk's features stay in cache.
MMC_HD int chunk_entries(int64_t channels) { return channels <= 64 ? 128 : 64; }

// color[channel][lane] += weights[e][lane] * features[e][channel]
template <typename T, int C>
MMC_HD void add_colors(const T (*weights)[kLanes], const T* const* rows, int count, int64_t k0,
                       T* color) {
  using F = Lanes<T>;
  F acc[C];
  MMC_UNROLL for (int k = 0; k < C; ++k) acc[k] = F::load(color + (k0 + k) * kLanes);
  for (int e = 0; e < count; ++e) {
    const F w = F::load(weights[e]);
    const T* f = rows[e] + k0;
    MMC_UNROLL for (int k = 0; k < C; ++k) acc[k] = fma(w, F(f[k]), acc[k]);
  }
  MMC_UNROLL for (int k = 0; k < C; ++k) acc[k].store(color + (k0 + k) * kLanes);
}

template <typename T>
MMC_HD void add_all_colors(const T (*weights)[kLanes], const T* const* rows, int count,
                           int64_t channels, T* color) {
  int64_t k = 0;
  for (; k + 8 <= channels; k += 8) add_colors<T, 8>(weights, rows, count, k, color);
  for (; k + 4 <= channels; k += 4) add_colors<T, 4>(weights, rows, count, k, color);
  for (; k < channels; ++k) add_colors<T, 1>(weights, rows, count, k, color);
}

// products[e][lane] = sum over channels of features[e][channel] * v[channel][lane]
template <typename T, int E>
MMC_HD void dot_colors(const T* const* rows, const T* v, int64_t channels,
                       T (*products)[kLanes]) {
  using F = Lanes<T>;
  F acc[E];
  MMC_UNROLL for (int e = 0; e < E; ++e) acc[e] = F(T(0));
  for (int64_t k = 0; k < channels; ++k) {
    const F vk = F::load(v + k * kLanes);
    MMC_UNROLL for (int e = 0; e < E; ++e) acc[e] = fma(F(rows[e][k]), vk, acc[e]);
  }
  MMC_UNROLL for (int e = 0; e < E; ++e) acc[e].store(products[e]);
}

// grads[e][channel] += sum over lanes of weights[e][lane] * pixels[lane][channel]
template <typename T>
MMC_HD void add_feature_grads(const T* weights, const T* pixels, int64_t stride, T* grads) {
  using F = Lanes<T>;
  for (int64_t k = 0; k < stride; k += 4 * kLanes) {
    const int n = static_cast<int>(min_<int64_t>(4, (stride - k) / kLanes));
    F acc[4];
    for (int c = 0; c < n; ++c) acc[c] = F::load(grads + k + c * kLanes);
    for (int l = 0; l < kLanes; ++l) {
      if (weights[l] == T(0)) continue;
      const F w(weights[l]);
      const T* p = pixels + l * stride + k;
      for (int c = 0; c < n; ++c) acc[c] = fma(w, F::load(p + c * kLanes), acc[c]);
    }
    for (int c = 0; c < n; ++c) acc[c].store(grads + k + c * kLanes);
  }
}

template <typename T>
int64_t many_scratch(int64_t channels, bool backward) {
  const int64_t image = kBlocks * kLanes * padded(channels);
  return backward ? 2 * image + chunk_entries(channels) * padded(channels) : image;
}

template <typename T, bool Stats>
void forward_many(const RasterIn<T>& in, const ForwardOut<T>& out, const TileJob& job,
                  T* scratch) {
  using F = Lanes<T>;
  using M = typename F::M;
  const int64_t channels = in.channels;
  const int limit = chunk_entries(channels);
  alignas(64) T t_state[kBlocks][kLanes], last_state[kBlocks][kLanes];
  alignas(64) T weights[kMaxChunk][kLanes];
  alignas(64) T lane_x[kLanes], lane_y[kLanes];
  const T* rows[kMaxChunk];
  unsigned alive_state[kBlocks];
  Chunk<T> chunk;
  lane_centres(job, lane_x, lane_y);
  const F base_x = F::load(lane_x), base_y = F::load(lane_y), t_stop(in.t_stop);
  for (int64_t i = 0; i < kBlocks * channels * kLanes; ++i) scratch[i] = T(0);
  unsigned live = 0;
  for (int b = 0; b < kBlocks; ++b) {
    F(T(1)).store(t_state[b]);
    F(T(-1)).store(last_state[b]);
    alive_state[b] = inside_bits(job, b);
    live |= unsigned(alive_state[b] != 0) << b;
  }
  int64_t begin = job.begin;
  for (; begin < job.end && live; begin += limit) {
    const int n = static_cast<int>(min_<int64_t>(limit, job.end - begin));
    chunk.stage(in, begin, n, T(job.x0), T(job.y0), live);
    for (int b = 0; b < kBlocks; ++b) {
      if (chunk.counts[b] == 0) continue;
      const F px = base_x + F(T(4 * (b >> 2))), py = base_y + F(T(4 * (b & 3)));
      F t = F::load(t_state[b]), last = F::load(last_state[b]);
      M alive = M::from_bits(alive_state[b]);
      int count = 0;
      for (int e = 0; e < chunk.counts[b]; ++e) {
        const int j = chunk.lists[b][e];
        const SplatRecord<T>& s = chunk.records[j];
        const auto a =
            eval_alpha<F, T>(lanes_of_conic(s), F(s.x) - px, F(s.y) - py, F(s.opacity));
        const M met = a.hit & alive;
        const F next = t * (F(T(1)) - a.alpha);
        const M blended = met & gt(next, t_stop);
        const F weight = keep(blended, a.alpha * t);
        const unsigned reached = bits(blended);
        weight.store(weights[count]);
        rows[count] = in.colors + row_of(in.ids32, in.ids64, begin + j) * channels;
        count += reached != 0;
        chunk.hits[j] |= static_cast<uint16_t>(unsigned(reached != 0) << b);
        if constexpr (Stats) {
          const int64_t slot = (begin + j) * in.subs + job.sub;
          out.touched[slot] += __builtin_popcount(bits(blended & gt(t, F(T(0.5)))));
          out.peak[slot] = max_(out.peak[slot], max_lane(weight));
        }
        t = select(blended, next, t);
        last = select(blended, F(T(begin - job.begin + j)), last);
        const M stopped = and_not(met, blended);
        if (__builtin_expect(bits(stopped) != 0, 0)) {
          alive = and_not(alive, stopped);
          if (bits(alive) == 0) break;
        }
      }
      add_all_colors(weights, rows, count, channels, scratch + b * channels * kLanes);
      t.store(t_state[b]);
      last.store(last_state[b]);
      alive_state[b] = bits(alive);
      if (alive_state[b] == 0) live &= ~(1u << b);
    }
    for (int j = 0; j < n; ++j) out.hits[(begin + j) * in.subs + job.sub] = chunk.hits[j];
  }
  for (; begin < job.end; ++begin) out.hits[begin * in.subs + job.sub] = 0;
  write_pixels<T, 0>(in, out, job, t_state, last_state, scratch);
}

template <typename T>
void backward_many(const RasterIn<T>& in, const BackwardIO<T>& io, const TileJob& job,
                   T* scratch) {
  using F = Lanes<T>;
  using M = typename F::M;
  const int64_t channels = in.channels, wide = padded(channels);
  const int limit = chunk_entries(channels);
  PixelState<T> state;
  alignas(64) T lane_x[kLanes], lane_y[kLanes];
  alignas(64) T weights[kMaxChunk][kLanes], products[kMaxChunk][kLanes];
  const T* rows[kMaxChunk];
  int members[kMaxChunk];
  T moments[kMaxChunk][kAllSums];
  T* by_block = scratch;                                 // [block][channel][lane]
  T* by_pixel = by_block + kBlocks * kLanes * wide;      // [block][lane][channel]
  T* feature_grads = by_pixel + kBlocks * kLanes * wide; // [entry][channel]
  lane_centres(job, lane_x, lane_y);
  const F base_x = F::load(lane_x), base_y = F::load(lane_y);
  read_pixels<T, 0>(in, io, job, state, by_block);
  if (io.colors) {
    for (int64_t i = 0; i < kBlocks * kLanes * wide; ++i) by_pixel[i] = T(0);
    for (int b = 0; b < kBlocks; ++b)
      for (int64_t k = 0; k < channels; ++k)
        for (int l = 0; l < kLanes; ++l)
          by_pixel[(b * kLanes + l) * wide + k] = by_block[(b * channels + k) * kLanes + l];
  }
  for (int64_t end = job.end; end > job.begin;) {
    // Collect the next entries, back to front, that reached any pixel.
    int n = 0;
    int64_t entries[kMaxChunk];
    while (end > job.begin && n < limit) {
      --end;
      if (io.hits[end * in.subs + job.sub]) entries[n++] = end;
    }
    for (int j = 0; j < n; ++j)
      for (int k = 0; k < kAllSums; ++k) moments[j][k] = T(0);
    if (io.colors)
      for (int64_t i = 0; i < n * wide; ++i) feature_grads[i] = T(0);
    for (int b = 0; b < kBlocks; ++b) {
      int count = 0;
      for (int j = 0; j < n; ++j) {
        members[count] = j;
        count += (io.hits[entries[j] * in.subs + job.sub] >> b) & 1;
      }
      if (count == 0) continue;
      const F px = base_x + F(T(4 * (b >> 2))), py = base_y + F(T(4 * (b & 3)));
      const F last = F::load(state.last[b]);
      for (int e = 0; e < count; ++e)
        rows[e] = in.colors + row_of(in.ids32, in.ids64, entries[members[e]]) * channels;
      if (io.geometry) {
        const T* v = by_block + b * channels * kLanes;
        int e = 0;
        for (; e + 8 <= count; e += 8) dot_colors<T, 8>(rows + e, v, channels, products + e);
        for (; e + 4 <= count; e += 4) dot_colors<T, 4>(rows + e, v, channels, products + e);
        for (; e < count; ++e) dot_colors<T, 1>(rows + e, v, channels, products + e);
      }
      F t_after = F::load(state.t[b]), rest = F::load(state.s[b]);
      for (int e = 0; e < count; ++e) {
        const int64_t i = entries[members[e]];
        const SplatRecord<T>& s = in.records[row_of(in.ids32, in.ids64, i)];
        const ScaledConic<F> conic = lanes_of_conic(s);
        const auto a = eval_alpha<F, T>(conic, F(s.x) - px, F(s.y) - py, F(s.opacity));
        const M valid = a.hit & le(F(T(i - job.begin)), last);
        const F ra = reciprocal(F(T(1)) - a.alpha);
        const F t = t_after * ra;
        const F weight = keep(valid, a.alpha * t);
        t_after = select(valid, t, t_after);
        weight.store(weights[e]);
        if (!io.geometry) continue;
        const F d = F::load(products[e]);
        const F g = fma(t, d, ra * rest);
        rest = rest - weight * d;
        const F q = keep(valid & le(a.raw, F(Splat<T>::alpha_max)), g * a.visibility);
        const F qx = q * a.dx, qy = q * a.dy;
        F acc[kAllSums] = {q, qx, qy, qx * a.dx, qx * a.dy, qy * a.dy, F(T(0)), F(T(0))};
        if (io.absolute) {
          const F size = abs(q);
          acc[kAbsX] = size * abs(fma(conic.a + conic.a, a.dx, conic.b * a.dy));
          acc[kAbsY] = size * abs(fma(conic.b, a.dx, (conic.c + conic.c) * a.dy));
        }
        T total[kAllSums];
        F::sums(acc, total);
        for (int k = 0; k < kAllSums; ++k) moments[members[e]][k] += total[k];
      }
      t_after.store(state.t[b]);
      rest.store(state.s[b]);
      if (io.colors)
        for (int e = 0; e < count; ++e)
          add_feature_grads(weights[e], by_pixel + b * kLanes * wide, wide,
                            feature_grads + members[e] * wide);
    }
    for (int j = 0; j < n; ++j) {
      T* out = io.partials + io.slots[entries[j] * in.subs + job.sub] * io.stride;
      for (int k = 0; k < kAlphaSums; ++k) out[k] = moments[j][k];
      for (int64_t k = 0; k < channels; ++k)
        out[kAlphaSums + k] = io.colors ? feature_grads[j * wide + k] : T(0);
      if (io.absolute)
        for (int k = 0; k < 2; ++k) out[kAbsX + channels + k] = moments[j][kAbsX + k];
    }
  }
}

}  // namespace MMC_ISA_NS
}  // namespace mmc
