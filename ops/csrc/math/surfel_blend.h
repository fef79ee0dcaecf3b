// Blending of surfels at one pixel, with distortion and median depth, and its gradient.
#pragma once
#include "math/alpha.h"

namespace mmc {

// Scalar twins of the lane functions that surfel.h uses beside those of alpha.h; its templates
// must see them.
MMC_HD float max(float a, float b) { return max_(a, b); }
MMC_HD double max(double a, double b) { return max_(a, b); }
MMC_HD float keep(bool mask, float a) { return mask ? a : 0.0f; }
MMC_HD double keep(bool mask, double a) { return mask ? a : 0.0; }

}  // namespace mmc

#include "math/surfel.h"

namespace mmc {

// m1 = sum w m, m2 = sum w m^2 of the contributors so far, m the mapped depth.
template <typename T>
struct SurfelPixel {
  T t, m1, m2, distortion, median;
};

// Adds a contributor; `next` is the transmittance behind it.
template <typename T>
MMC_HD void blend_surfel(SurfelPixel<T>& s, T weight, T depth, T next) {
  const T m = distortion_depth<T, T>(depth), before = T(1) - s.t;
  s.distortion = fma(weight, fma(m * m, before, s.m2) - (m + m) * s.m1, s.distortion);
  s.m1 = fma(weight, m, s.m1);
  s.m2 = fma(weight * m, m, s.m2);
  if (s.t > T(0.5)) s.median = depth;
  s.t = next;
}

// Back to front: transmittance behind, what blend.h calls rest, sums over all contributors, and
// the gradients of the pixel's distortion and median depth.
template <typename T>
struct SurfelBackward {
  T t, rest, total, m1, m2, v_distortion, v_median;
};
template <typename T>
struct SurfelStep {
  T weight, q, g_depth;  // q: g_alpha * visibility, 0 where the alpha is clamped
};

// The distortion is the sum over pairs of w_i w_j (m_i - m_j)^2, symmetric in i and j.
template <typename T, class Eval>
MMC_HD SurfelStep<T> surfel_backward_step(SurfelBackward<T>& s, const Eval& e, T product,
                                          bool is_median) {
  using P = DistortionPlanes<T>;
  const T ra = T(1) / (T(1) - e.alpha), t = s.t * ra, weight = e.alpha * t;
  const T m = distortion_depth<T, T>(e.depth);
  product = fma(s.v_distortion, fma(m * m, s.total, s.m2) - (m + m) * s.m1, product);
  const T g_m = e.depth >= P::near_plane
                    ? (weight + weight) * s.v_distortion * fma(m, s.total, -s.m1)
                    : T(0);
  T g_depth = g_m * T(P::scale * P::near_plane) / max_(e.depth * e.depth, T(1e-20));
  if (is_median) g_depth += s.v_median;
  const T g_alpha = fma(t, product, ra * s.rest);
  s.rest = s.rest - weight * product;
  s.t = t;
  return {weight, e.raw <= Splat<T>::alpha_max ? g_alpha * e.visibility : T(0), g_depth};
}

}  // namespace mmc
