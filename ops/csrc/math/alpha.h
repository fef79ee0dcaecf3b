// Alpha of one splat at one pixel and the blending step, forward and backward.
//
// Templated on F: a scalar (float, double) or sixteen lanes (pack.h). The forward and the
// backward pass call the same eval_alpha, so both take identical skip decisions.
#pragma once
#include "math/hd.h"

namespace mmc {

// Scalar twins of the lane functions that the templates below use.
MMC_HD bool ge(float a, float b) { return a >= b; }
MMC_HD bool ge(double a, double b) { return a >= b; }
MMC_HD bool le(float a, float b) { return a <= b; }
MMC_HD bool le(double a, double b) { return a <= b; }
MMC_HD float min(float a, float b) { return min_(a, b); }
MMC_HD double min(double a, double b) { return min_(a, b); }
MMC_HD float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
MMC_HD double fma(double a, double b, double c) { return ::fma(a, b, c); }
MMC_HD float exp2(float x) { return ::exp2f(x); }
MMC_HD double exp2(double x) { return ::exp2(x); }

constexpr double kLog2E = 1.4426950408889634074;

// A conic scaled so that exp(-sigma) = 2^(dx (a dx + b dy) + c dy^2).
template <typename T>
struct ScaledConic {
  T a, b, c;
};
template <typename T>
MMC_HD ScaledConic<T> scale_conic(T a, T b, T c) {
  return {T(-0.5 * kLog2E) * a, T(-kLog2E) * b, T(-0.5 * kLog2E) * c};
}

template <class F, class M>
struct AlphaEval {
  F dx, dy;      // mean - pixel
  F visibility;  // exp(-sigma)
  F raw;         // opacity * visibility, before the clamp
  F alpha;
  M hit;         // sigma >= 0 and alpha >= 1/255
};

template <class F, typename T>
MMC_HD auto eval_alpha(const ScaledConic<F>& conic, const F& dx, const F& dy, const F& opacity) {
  using M = decltype(ge(dx, dy));
  const F power = fma(dx, fma(conic.a, dx, conic.b * dy), (conic.c * dy) * dy);
  AlphaEval<F, M> out;
  out.dx = dx;
  out.dy = dy;
  out.visibility = exp2(power);
  out.raw = opacity * out.visibility;
  out.alpha = min(out.raw, F(Splat<T>::alpha_max));
  out.hit = le(power, F(T(0))) & ge(out.alpha, F(Splat<T>::alpha_min));
  return out;
}

// Sums over pixels from which the geometric gradients of one splat follow:
// q = g_alpha * visibility (0 where the alpha is clamped) and its moments in (dx, dy).
template <typename T>
struct AlphaMoments {
  T q, qx, qy, qxx, qxy, qyy;
};
// Their places in a row of sums; those of the absolute gradient, where there are any, follow.
enum AlphaRow { kQ, kQx, kQy, kQxx, kQxy, kQyy, kAlphaSums, kAbsX = kAlphaSums, kAbsY, kAllSums };
static_assert(kAlphaSums * sizeof(float) == sizeof(AlphaMoments<float>));

template <typename T>
MMC_HD AlphaMoments<T> alpha_moments(const T* row) {  // [kAlphaSums]
  return {row[kQ], row[kQx], row[kQy], row[kQxx], row[kQxy], row[kQyy]};
}

template <typename T>
struct AlphaGrads {
  T mean_x, mean_y, conic_a, conic_b, conic_c, opacity;
};
template <typename T>
MMC_HD AlphaGrads<T> alpha_grads(const AlphaMoments<T>& m, T a, T b, T c, T opacity) {
  return {-opacity * (a * m.qx + b * m.qy),
          -opacity * (b * m.qx + c * m.qy),
          T(-0.5) * opacity * m.qxx,
          -opacity * m.qxy,
          T(-0.5) * opacity * m.qyy,
          m.q};
}

}  // namespace mmc
