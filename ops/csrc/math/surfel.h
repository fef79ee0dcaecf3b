// 2D Gaussians (surfels): exponent and depth where a pixel's ray meets the tangent plane.
//
// Rows M1, M2, M3 of the ray transform M = K [t_u | t_v | mu]; the planes through the pixel are
// h_u = -M1 + u M3, h_v = -M2 + v M3, and zeta = h_u x h_v holds the hit point in homogeneous
// tangent coordinates. A screen-space low pass bounds the exponent from below.
#pragma once
#include "math/alpha.h"

namespace mmc {

template <class F>
struct SurfelRow {
  F m[3][3];
  F x, y;  // centre of the screen box
  F opacity;
};

template <class F, class M>
struct SurfelEval {
  F hu[3], hv[3];
  F s, t, inv;  // hit point and 1 / zeta_3
  F dx, dy;
  F depth;
  F visibility, raw, alpha;
  M surface;  // the surface branch of the minimum, not the low pass
  M hit;
};

template <class F, typename T>
MMC_HD auto eval_surfel(const SurfelRow<F>& g, const F& u, const F& v) {
  using M = decltype(ge(u, v));
  const F zero(T(0));
  SurfelEval<F, M> o;
  MMC_UNROLL for (int k = 0; k < 3; ++k) {
    o.hu[k] = fma(u, g.m[2][k], zero - g.m[0][k]);
    o.hv[k] = fma(v, g.m[2][k], zero - g.m[1][k]);
  }
  const F z1 = o.hu[1] * o.hv[2] - o.hu[2] * o.hv[1];
  const F z2 = o.hu[2] * o.hv[0] - o.hu[0] * o.hv[2];
  const F z3 = o.hu[0] * o.hv[1] - o.hu[1] * o.hv[0];
  o.inv = F(T(1)) / z3;
  o.s = z1 * o.inv;
  o.t = z2 * o.inv;
  o.dx = g.x - u;
  o.dy = g.y - v;
  const F on_surface = fma(o.s, o.s, o.t * o.t);
  const F square = fma(o.dx, o.dx, o.dy * o.dy);
  const F low_pass = square + square;
  o.surface = le(on_surface, low_pass);
  o.depth = fma(g.m[2][0], o.s, fma(g.m[2][1], o.t, g.m[2][2]));
  const F sigma = min(on_surface, low_pass) * F(T(0.5));
  o.visibility = exp2(sigma * F(T(-kLog2E)));
  o.raw = g.opacity * o.visibility;
  o.alpha = min(o.raw, F(Splat<T>::alpha_max));
  // z3 = 0 (the plane seen edge-on) makes s infinite or NaN: no hit.
  o.hit = ge(z3 * z3, F(T(1e-37))) & ge(on_surface, zero) & ge(o.alpha, F(Splat<T>::alpha_min));
  return o;
}

// Depth in the distortion loss, from 0 at the near plane to 1 at the far plane.
template <typename T>
struct DistortionPlanes {
  static constexpr T near_plane = T(0.2), far_plane = T(100);
  static constexpr T scale = far_plane / (far_plane - near_plane);
};
template <class F, typename T>
MMC_HD F distortion_depth(const F& depth) {
  using P = DistortionPlanes<T>;
  return F(P::scale) - F(P::scale * P::near_plane) / max(depth, F(P::near_plane));
}

// Gradients of one pixel with respect to the row, from those of sigma and depth.
// Places in a row of sums: gradients of the ray transform [3, 3], the centre and the opacity.
enum SurfelSum { kTransform, kCentre = kTransform + 9, kOpacity = kCentre + 2, kSurfelTerms };

template <class F>
struct SurfelGrads {
  F m[3][3];
  F x, y;
};
static_assert(kOpacity * sizeof(float) == sizeof(SurfelGrads<float>));
template <class F, typename T, class M>
MMC_HD SurfelGrads<F> surfel_vjp(const SurfelRow<F>& g, const SurfelEval<F, M>& o, const F& u,
                                 const F& v, const F& g_sigma, const F& g_depth) {
  const F zero(T(0)), two(T(2));
  const F on = keep(o.surface, g_sigma), off = g_sigma - on;
  SurfelGrads<F> out;
  out.x = two * o.dx * off;
  out.y = two * o.dy * off;
  const F gs = fma(on, o.s, g_depth * g.m[2][0]);
  const F gt_ = fma(on, o.t, g_depth * g.m[2][1]);
  const F z1 = gs * o.inv, z2 = gt_ * o.inv;
  const F z3 = zero - (gs * o.s + gt_ * o.t) * o.inv;
  const F gu[3] = {o.hv[1] * z3 - o.hv[2] * z2, o.hv[2] * z1 - o.hv[0] * z3,
                   o.hv[0] * z2 - o.hv[1] * z1};
  const F gv[3] = {z2 * o.hu[2] - z3 * o.hu[1], z3 * o.hu[0] - z1 * o.hu[2],
                   z1 * o.hu[1] - z2 * o.hu[0]};
  const F direct[3] = {o.s, o.t, F(T(1))};
  MMC_UNROLL for (int k = 0; k < 3; ++k) {
    out.m[0][k] = zero - gu[k];
    out.m[1][k] = zero - gv[k];
    out.m[2][k] = fma(u, gu[k], fma(v, gv[k], g_depth * direct[k]));
  }
  return out;
}

}  // namespace mmc
