// Tile kernels of 2D Gaussians (surfels), any number of channels, with distortion and median
// depth. Included inside the target region of rasterize_isa_*.cpp.
#pragma once
#include "cpu/rasterize_few.h"
#include "math/surfel.h"

namespace mmc {
namespace MMC_ISA_NS {

template <typename T>
MMC_HD SurfelRow<Lanes<T>> surfel_row(const SurfelIn<T>& in, int64_t row) {
  using F = Lanes<T>;
  const T* m = in.transforms + 9 * row;
  return {{{F(m[0]), F(m[1]), F(m[2])}, {F(m[3]), F(m[4]), F(m[5])}, {F(m[6]), F(m[7]), F(m[8])}},
          F(in.means2d[2 * row]),
          F(in.means2d[2 * row + 1]),
          F(in.opacities[row])};
}

// Per pixel, in forward order: M1 = sum w m, M2 = sum w m^2, the distortion and median depth.
template <typename T>
struct SurfelState {
  alignas(64) T t[kBlocks][kLanes], last[kBlocks][kLanes];
  alignas(64) T m1[kBlocks][kLanes], m2[kBlocks][kLanes], distortion[kBlocks][kLanes];
  alignas(64) T median[kBlocks][kLanes], median_at[kBlocks][kLanes];
};

template <typename T>
int64_t surfel_scratch(int64_t channels) {
  return (kBlocks + 1) * kLanes * channels + 64;
}

template <typename T>
void surfel_forward(const SurfelIn<T>& in, const SurfelOut<T>& out, const TileJob& job,
                    T* color) {
  using F = Lanes<T>;
  using M = typename F::M;
  const int64_t d = in.channels;
  SurfelState<T> s;
  alignas(64) T lane_x[kLanes], lane_y[kLanes];
  unsigned alive_state[kBlocks], live = 0;
  lane_centres(job, lane_x, lane_y);
  const F base_x = F::load(lane_x), base_y = F::load(lane_y), zero(T(0));
  for (int64_t i = 0; i < kBlocks * kLanes * d; ++i) color[i] = T(0);
  for (int b = 0; b < kBlocks; ++b) {
    F(T(1)).store(s.t[b]);
    F(T(-1)).store(s.last[b]);
    F(T(-1)).store(s.median_at[b]);
    T* const empty[] = {s.m1[b], s.m2[b], s.distortion[b], s.median[b]};
    for (T* x : empty) zero.store(x);
    alive_state[b] = inside_bits(job, b);
    live |= unsigned(alive_state[b] != 0) << b;
  }
  for (int64_t i = job.begin; i < job.end; ++i) {
    const int64_t row = row_of(in.ids32, in.ids64, i);
    const SurfelRow<F> g = surfel_row(in, row);
    const T* feature = in.features + row * d;
    const F index(T(i - job.begin));
    unsigned reached = 0, todo = live;
    while (todo) {
      const int b = __builtin_ctz(todo);
      todo &= todo - 1;
      const F u = base_x + F(T(4 * (b >> 2))), v = base_y + F(T(4 * (b & 3)));
      const auto e = eval_surfel<F, T>(g, u, v);
      const M alive = M::from_bits(alive_state[b]);
      const M met = e.hit & alive;
      if (bits(met) == 0) continue;
      const F t = F::load(s.t[b]);
      const F next = t * (F(T(1)) - e.alpha);
      const M blended = met & gt(next, F(Splat<T>::t_stop));
      alive_state[b] &= ~bits(and_not(met, blended));
      if (alive_state[b] == 0) live &= ~(1u << b);
      if (bits(blended) == 0) continue;
      reached |= 1u << b;
      const F weight = keep(blended, e.alpha * t);
      T* c = color + b * d * kLanes;
      for (int64_t k = 0; k < d; ++k)
        fma(weight, F(feature[k]), F::load(c + k * kLanes)).store(c + k * kLanes);
      const F m = keep(blended, distortion_depth<F, T>(e.depth));
      const F m1 = F::load(s.m1[b]), m2 = F::load(s.m2[b]);
      const F before = F(T(1)) - t;
      const F spread = fma(m * m, before, m2) - (m + m) * m1;
      fma(weight, spread, F::load(s.distortion[b])).store(s.distortion[b]);
      fma(weight, m, m1).store(s.m1[b]);
      fma(weight * m, m, m2).store(s.m2[b]);
      const M front = blended & gt(t, F(T(0.5)));
      select(front, e.depth, F::load(s.median[b])).store(s.median[b]);
      select(front, index, F::load(s.median_at[b])).store(s.median_at[b]);
      select(blended, next, t).store(s.t[b]);
      select(blended, index, F::load(s.last[b])).store(s.last[b]);
    }
    out.hits[i * in.subs + job.sub] = static_cast<uint16_t>(reached);
  }
  const T* background = in.backgrounds ? in.backgrounds + job.image * d : nullptr;
  for (int y = 0; y < job.h; ++y) {
    for (int x = 0; x < job.w; ++x) {
      const int b = pixel_block(x, y), l = pixel_lane(x, y);
      const int64_t p = job.pixel + y * job.row_stride + x;
      const T final_t = s.t[b][l];
      out.final_t[p] = final_t;
      out.alphas[p] = T(1) - final_t;
      out.distortion[p] = s.distortion[b][l];
      out.median[p] = s.median[b][l];
      out.moments[2 * p] = s.m1[b][l];
      out.moments[2 * p + 1] = s.m2[b][l];
      out.last[2 * p] = static_cast<int32_t>(s.last[b][l]);
      out.last[2 * p + 1] = static_cast<int32_t>(s.median_at[b][l]);
      for (int64_t k = 0; k < d; ++k)
        out.renders[p * d + k] =
            color[(b * d + k) * kLanes + l] + (background ? final_t * background[k] : T(0));
    }
  }
}

template <typename T>
void surfel_backward(const SurfelIn<T>& in, const SurfelGradIO<T>& io, const TileJob& job,
                     T* scratch) {
  using F = Lanes<T>;
  using M = typename F::M;
  const int64_t d = in.channels;
  T* v = scratch;                              // [block][channel][lane]
  T* feature_acc = v + kBlocks * kLanes * d;   // [channel][lane]
  SurfelState<T> s;
  alignas(64) T rest_state[kBlocks][kLanes], v_dist[kBlocks][kLanes], v_med[kBlocks][kLanes];
  alignas(64) T total_state[kBlocks][kLanes];
  alignas(64) T lane_x[kLanes], lane_y[kLanes];
  lane_centres(job, lane_x, lane_y);
  const F base_x = F::load(lane_x), base_y = F::load(lane_y), zero(T(0));
  for (int64_t i = 0; i < kBlocks * kLanes * d; ++i) v[i] = T(0);
  for (int b = 0; b < kBlocks; ++b) {
    F(T(1)).store(s.t[b]);
    F(T(-1)).store(s.last[b]);
    F(T(-1)).store(s.median_at[b]);
    T* const empty[] = {s.m1[b], s.m2[b], rest_state[b], v_dist[b], v_med[b], total_state[b]};
    for (T* x : empty) zero.store(x);
  }
  const T* background = in.backgrounds ? in.backgrounds + job.image * d : nullptr;
  for (int y = 0; y < job.h; ++y) {
    for (int x = 0; x < job.w; ++x) {
      const int b = pixel_block(x, y), l = pixel_lane(x, y);
      const int64_t p = job.pixel + y * job.row_stride + x;
      const T final_t = io.final_t[p];
      T g = io.v_alphas[p];
      for (int64_t k = 0; k < d; ++k) {
        const T vk = io.v_renders[p * d + k];
        v[(b * d + k) * kLanes + l] = vk;
        if (background) g -= background[k] * vk;
        if (io.v_backgrounds) io.v_backgrounds[k] += final_t * vk;
      }
      s.t[b][l] = final_t;
      rest_state[b][l] = final_t * g;
      total_state[b][l] = T(1) - final_t;
      s.last[b][l] = T(io.last[2 * p]);
      s.median_at[b][l] = T(io.last[2 * p + 1]);
      s.m1[b][l] = io.moments[2 * p];
      s.m2[b][l] = io.moments[2 * p + 1];
      v_dist[b][l] = io.v_distortion[p];
      v_med[b][l] = io.v_median[p];
    }
  }
  for (int64_t i = job.end - 1; i >= job.begin; --i) {
    const int64_t entry = i * in.subs + job.sub;
    unsigned todo = io.hits[entry];
    if (todo == 0) continue;
    const int64_t row = row_of(in.ids32, in.ids64, i);
    const SurfelRow<F> g = surfel_row(in, row);
    const T* feature = in.features + row * d;
    const F index(T(i - job.begin));
    F acc[kSurfelTerms];
    for (int k = 0; k < kSurfelTerms; ++k) acc[k] = zero;
    for (int64_t k = 0; k < d * kLanes; ++k) feature_acc[k] = T(0);
    while (todo) {
      const int b = __builtin_ctz(todo);
      todo &= todo - 1;
      const F u = base_x + F(T(4 * (b >> 2))), w_y = base_y + F(T(4 * (b & 3)));
      const auto e = eval_surfel<F, T>(g, u, w_y);
      const M valid = e.hit & le(index, F::load(s.last[b]));
      const F ra = F(T(1)) / (F(T(1)) - e.alpha);
      const F t_after = F::load(s.t[b]);
      const F t = select(valid, t_after * ra, t_after);
      t.store(s.t[b]);
      const F weight = keep(valid, e.alpha * t);
      F product = zero;
      const T* vb = v + b * d * kLanes;
      for (int64_t k = 0; k < d; ++k) {
        const F vk = F::load(vb + k * kLanes);
        product = fma(F(feature[k]), vk, product);
        fma(weight, vk, F::load(feature_acc + k * kLanes)).store(feature_acc + k * kLanes);
      }
      // The distortion is the sum over pairs of w_i w_j (m_i - m_j)^2, symmetric in i and j.
      using P = DistortionPlanes<T>;
      const F m = keep(valid, distortion_depth<F, T>(e.depth));
      const F total = F::load(total_state[b]), m1 = F::load(s.m1[b]), vd = F::load(v_dist[b]);
      product = fma(vd, fma(m * m, total, F::load(s.m2[b])) - (m + m) * m1, product);
      const F g_m = keep(valid & ge(e.depth, F(P::near_plane)),
                         (weight + weight) * vd * fma(m, total, zero - m1));
      F g_depth = g_m * F(P::scale * P::near_plane) / max(e.depth * e.depth, F(T(1e-20)));
      const F at = F::load(s.median_at[b]);
      g_depth = g_depth + keep(valid & le(index, at) & ge(index, at), F::load(v_med[b]));
      g_depth = keep(valid, g_depth);
      const F rest = F::load(rest_state[b]);
      const F g_alpha = fma(t, product, ra * rest);
      (rest - weight * product).store(rest_state[b]);
      const F q = keep(valid & le(e.raw, F(Splat<T>::alpha_max)), g_alpha * e.visibility);
      const auto grad = surfel_vjp<F, T>(g, e, u, w_y, zero - q * g.opacity, g_depth);
      MMC_UNROLL for (int r = 0; r < 3; ++r)
        MMC_UNROLL for (int k = 0; k < 3; ++k)
          acc[kTransform + 3 * r + k] = acc[kTransform + 3 * r + k] + keep(valid, grad.m[r][k]);
      acc[kCentre] = acc[kCentre] + keep(valid, grad.x);
      acc[kCentre + 1] = acc[kCentre + 1] + keep(valid, grad.y);
      acc[kOpacity] = acc[kOpacity] + q;
    }
    T* out = io.partials + io.slots[entry] * io.stride;
    F::sums(acc, out);
    for (int64_t k = 0; k < d; ++k) out[kSurfelTerms + k] = sum(F::load(feature_acc + k * kLanes));
  }
}

}  // namespace MMC_ISA_NS
}  // namespace mmc
