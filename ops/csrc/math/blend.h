// One step of blending, front to back, and of its gradient, back to front.
#pragma once
#include "math/alpha.h"

namespace mmc {

// What the backward carries per pixel: transmittance behind the splat, and
// rest = T_final (g_alpha - background . g_color) minus weight * (color . g_color) of the splats
// behind. No state grows with the number of channels.
template <typename T>
struct BlendState {
  T t, rest;
};
template <typename T>
struct BlendGrad {
  T weight;  // alpha * transmittance in front: gradient of a color by the pixel's
  T q;       // g_alpha * visibility; 0 where the alpha is clamped
};

template <typename T>
MMC_HD T blend_transmittance(T t_behind, T alpha) {
  return t_behind * (T(1) / (T(1) - alpha));
}

// product: color . g_color. Call only where the splat took part.
template <typename T, class Eval>
MMC_HD BlendGrad<T> blend_vjp(const Eval& e, T product, BlendState<T>& s) {
  const T ra = T(1) / (T(1) - e.alpha), t = s.t * ra, weight = e.alpha * t;
  const T g = fma(t, product, ra * s.rest);
  s.rest = s.rest - weight * product;
  s.t = t;
  return {weight, e.raw <= Splat<T>::alpha_max ? g * e.visibility : T(0)};
}

// Adds the moments of one pixel (alpha.h); dx, dy = mean - pixel.
template <typename T>
MMC_HD void add_moments(AlphaMoments<T>& m, T q, T dx, T dy) {
  const T qx = q * dx, qy = q * dy;
  m.q += q;
  m.qx += qx;
  m.qy += qy;
  m.qxx = fma(qx, dx, m.qxx);
  m.qxy = fma(qx, dy, m.qxy);
  m.qyy = fma(qy, dy, m.qyy);
}

// Absolute gradient of the mean at one pixel, up to the factor of absolute_grad.
template <typename T>
MMC_HD void add_absolute(T& x, T& y, const ScaledConic<T>& c, T q, T dx, T dy) {
  const T size = abs_(q);
  x = fma(size, abs_(fma(c.a + c.a, dx, c.b * dy)), x);
  y = fma(size, abs_(fma(c.b, dx, (c.c + c.c) * dy)), y);
}
template <typename T>
MMC_HD T absolute_grad(T sum, T opacity) {
  return abs_(opacity) * sum / T(kLog2E);
}

}  // namespace mmc
