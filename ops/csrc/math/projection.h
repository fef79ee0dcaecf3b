// One Gaussian into one camera: screen-space centre, conic, compensation, radii; and the gradient.
// Everything is branch-free, so that a loop over lanes becomes vector code.
#pragma once
#include "math/cameras.h"
#include "math/covar.h"

namespace mmc {

template <typename T>
struct ProjParams {
  T eps2d, near_plane, far_plane, radius_clip;
};

template <typename T>
struct Projected {
  T valid;  // 1 inside the depth range and with a positive determinant, else 0
  T u, v, depth;
  T conic_a, conic_b, conic_c;
  T compensation;
  T cov_xx, cov_yy;  // of the widened covariance
};

template <typename T>
MMC_HD Vec3<T> row(const Jacobian<T>& a, int i) {
  return {a.m[i][0], a.m[i][1], a.m[i][2]};
}
template <typename T>
MMC_HD Jacobian<T> from_rows(const Vec3<T>& a, const Vec3<T>& b) {
  return {{{a.x, a.y, a.z}, {b.x, b.y, b.z}}};
}
// A B, 2 x 3 times 3 x 3
template <typename T>
MMC_HD Jacobian<T> jac_mul(const Jacobian<T>& a, const Mat3<T>& b) {
  return from_rows(mul_t(b, row(a, 0)), mul_t(b, row(a, 1)));
}
// A B^T with A 2 x 3 and B 3 x 3
template <typename T>
MMC_HD Jacobian<T> jac_mul_nt(const Jacobian<T>& a, const Mat3<T>& b) {
  return from_rows(mul(b, row(a, 0)), mul(b, row(a, 1)));
}
// A^T B, 3 x 3
template <typename T>
MMC_HD Mat3<T> jac_mul_tn(const Jacobian<T>& a, const Jacobian<T>& b) {
  const Vec3<T> b0 = row(b, 0), b1 = row(b, 1);
  const Vec3<T> r0 = a.m[0][0] * b0 + a.m[1][0] * b1, r1 = a.m[0][1] * b0 + a.m[1][1] * b1;
  const Vec3<T> r2 = a.m[0][2] * b0 + a.m[1][2] * b1;
  return {{{r0.x, r0.y, r0.z}, {r1.x, r1.y, r1.z}, {r2.x, r2.y, r2.z}}};
}
// S A with S symmetric 2 x 2
template <typename T>
MMC_HD Jacobian<T> sym_mul(const Sym2<T>& s, const Jacobian<T>& a) {
  const Vec3<T> a0 = row(a, 0), a1 = row(a, 1);
  return from_rows(s.xx * a0 + s.xy * a1, s.xy * a0 + s.yy * a1);
}
// A S with S symmetric 3 x 3
template <typename T>
MMC_HD Jacobian<T> jac_mul_sym(const Jacobian<T>& a, const Sym3<T>& s) {
  return from_rows(mul(s, row(a, 0)), mul(s, row(a, 1)));
}
// A B^T, 2 x 2 and symmetric
template <typename T>
MMC_HD Sym2<T> jac_gram(const Jacobian<T>& a, const Jacobian<T>& b) {
  return {dot(row(a, 0), row(b, 0)), dot(row(a, 0), row(b, 1)), dot(row(a, 1), row(b, 1))};
}

// The widened covariance, its inverse, and what widening did to the determinant.
template <typename T>
struct Lowpass {
  T det, a, b, c, compensation, xx, yy;
  T floored, positive;  // 1 or 0: bools inside structs keep GCC from vectorizing
};

template <typename T>
MMC_HD Lowpass<T> lowpass(const Sym2<T>& s, T eps2d) {
  const T xx = s.xx + eps2d, yy = s.yy + eps2d;
  const T det = diff_of_products(xx, yy, s.xy, s.xy);
  const bool positive = det > T(0);
  const T inv = T(1) / select(positive, det, T(1));
  const T ratio = diff_of_products(s.xx, s.yy, s.xy, s.xy) * inv;
  const T floor2 = Splat<T>::rho_min * Splat<T>::rho_min;
  const bool floored = !(ratio > floor2);
  const T compensation = sqrt_(select(floored, floor2, ratio));
  return {det, yy * inv,     -s.xy * inv, xx * inv, compensation,
          xx,  yy,           select(floored, T(1), T(0)), select(positive, T(1), T(0))};
}

template <typename T>
MMC_HD Vec3<T> to_camera(const Camera<T>& cam, const Vec3<T>& mean) {
  return mul(cam.r, mean) + cam.t;
}

// Camera-frame point whose depth was made safe, and whether that was not needed.
template <typename T>
struct DepthTest {
  Vec3<T> p;
  T in_range;
};

template <typename T>
MMC_HD DepthTest<T> depth_test(const Camera<T>& cam, const ProjParams<T>& par,
                               const Vec3<T>& mean) {
  const Vec3<T> p = to_camera(cam, mean);
  const bool in_range = (p.z >= par.near_plane) & (p.z <= par.far_plane);
  return {{p.x, p.y, select(in_range, p.z, T(1))}, select(in_range, T(1), T(0))};
}

template <typename T>
MMC_HD Projected<T> pack_projected(const DepthTest<T>& d, const CamPoint<T>& c,
                                   const Lowpass<T>& l) {
  return {d.in_range * l.positive, c.u, c.v, d.p.z, l.a, l.b, l.c, l.compensation, l.xx, l.yy};
}

// Gaussian given by quaternion and scales.
template <typename T, int Model>
MMC_HD Projected<T> project_fwd(const Camera<T>& cam, const ProjParams<T>& par,
                                const Vec3<T>& mean, const Quat<T>& quat, const Vec3<T>& scale) {
  const DepthTest<T> d = depth_test(cam, par, mean);
  const CamPoint<T> c = CameraMath<T, Model>::fwd(cam, d.p);
  const Mat3<T> factor = scale_columns(rotmat(normalize(quat).u), scale);
  const Jacobian<T> f = jac_mul(jac_mul(c.j, cam.r), factor);
  return pack_projected(d, c, lowpass(jac_gram(f, f), par.eps2d));
}

// Gaussian given by its covariance.
template <typename T, int Model>
MMC_HD Projected<T> project_fwd(const Camera<T>& cam, const ProjParams<T>& par,
                                const Vec3<T>& mean, const Sym3<T>& covar) {
  const DepthTest<T> d = depth_test(cam, par, mean);
  const CamPoint<T> c = CameraMath<T, Model>::fwd(cam, d.p);
  const Jacobian<T> k = jac_mul(c.j, cam.r);
  return pack_projected(d, c, lowpass(jac_gram(jac_mul_sym(k, covar), k), par.eps2d));
}

struct Radii {
  int32_t x, y;  // 0: culled
};

// Box half sizes of a valid Gaussian with effective opacity o (pass 1 without opacities and
// with_opacity false), 0 where it is culled by opacity, size or the image border.
template <typename T>
MMC_HD Radii screen_radii(const Camera<T>& cam, const ProjParams<T>& par, const Projected<T>& p,
                          bool with_opacity, T opacity) {
  T extent = Splat<T>::extent;
  if (with_opacity) {
    if (!(opacity >= Splat<T>::alpha_min)) return {0, 0};
    extent = min_(extent, sqrt_(max_(T(2) * log_(T(255) * opacity), T(0))));
  }
  const T limit = T(1073741824);
  const T rx = min_(ceil_(extent * sqrt_(p.cov_xx)), limit);
  const T ry = min_(ceil_(extent * sqrt_(p.cov_yy)), limit);
  const bool large = (rx > par.radius_clip) | (ry > par.radius_clip);
  const bool inside = (p.u + rx > T(0)) & (p.u - rx < cam.width) & (p.v + ry > T(0)) &
                      (p.v - ry < cam.height) & (rx > T(0)) & (ry > T(0));
  if (!(large & inside)) return {0, 0};
  return {static_cast<int32_t>(rx), static_cast<int32_t>(ry)};
}

template <typename T>
struct ProjGrad {  // of the outputs
  T u, v, depth, conic_a, conic_b, conic_c, compensation;
};

template <typename T>
struct CameraGrad {
  Mat3<T> r;
  Vec3<T> t;
};
template <typename T>
struct PointGrad {
  Vec3<T> mean;
  CameraGrad<T> cam;
};
template <typename T>
struct QuatScaleGrad {
  PointGrad<T> point;
  RotScaleGrad<T> shape;
};
template <typename T>
struct CovarGrad {
  PointGrad<T> point;
  Mat3<T> covar;
};

// Gradient of the covariance before widening.
template <typename T>
MMC_HD Sym2<T> lowpass_vjp(const Lowpass<T>& l, T eps2d, const ProjGrad<T>& g) {
  // -Q G Q with G = [[ga, gb/2], [gb/2, gc]]
  const T gb = T(0.5) * g.conic_b;
  const T t00 = l.a * g.conic_a + l.b * gb, t01 = l.a * gb + l.b * g.conic_c;
  const T t10 = l.b * g.conic_a + l.c * gb, t11 = l.b * gb + l.c * g.conic_c;
  const T rho = l.compensation, h = (T(1) - l.floored) * T(0.5) * g.compensation / rho;
  const T f = h * (T(1) - rho * rho), d = h * eps2d / l.det;
  return {f * l.a - d - (t00 * l.a + t01 * l.b), f * l.b - (t00 * l.b + t01 * l.c),
          f * l.c - d - (t10 * l.b + t11 * l.c)};
}

// Shared part of the gradient: mean and camera, given that of K = J R.
template <typename T, int Model>
MMC_HD PointGrad<T> point_vjp(const Camera<T>& cam, const Vec3<T>& mean, const Vec3<T>& p,
                              const Jacobian<T>& j, const Jacobian<T>& g_k,
                              const ProjGrad<T>& g) {
  const Vec3<T> q = CameraMath<T, Model>::vjp(cam, p, g.u, g.v, jac_mul_nt(g_k, cam.r));
  const Vec3<T> gp{q.x, q.y, q.z + g.depth};
  const Mat3<T> a = jac_mul_tn(j, g_k);
  return {mul_t(cam.r, gp),
          {from_columns(column(a, 0) + mean.x * gp, column(a, 1) + mean.y * gp,
                        column(a, 2) + mean.z * gp),
           gp}};
}

// Only for rows that are visible (their depth and determinant are good).
template <typename T, int Model>
MMC_HD QuatScaleGrad<T> project_vjp(const Camera<T>& cam, T eps2d, const Vec3<T>& mean,
                                    const Quat<T>& quat, const Vec3<T>& scale,
                                    const ProjGrad<T>& g) {
  const UnitQuat<T> unit = normalize(quat);
  const Mat3<T> rot = rotmat(unit.u), factor = scale_columns(rot, scale);
  const Vec3<T> p = to_camera(cam, mean);
  const CamPoint<T> c = CameraMath<T, Model>::fwd(cam, p);
  const Jacobian<T> k = jac_mul(c.j, cam.r), f = jac_mul(k, factor);
  const Sym2<T> g2 = lowpass_vjp(lowpass(jac_gram(f, f), eps2d), eps2d, g);
  const Jacobian<T> g_f = sym_mul(Sym2<T>{2 * g2.xx, 2 * g2.xy, 2 * g2.yy}, f);
  return {point_vjp<T, Model>(cam, mean, p, c.j, jac_mul_nt(g_f, factor), g),
          scaled_rotation_vjp(unit, rot, scale, jac_mul_tn(k, g_f))};
}

template <typename T, int Model>
MMC_HD CovarGrad<T> project_vjp(const Camera<T>& cam, T eps2d, const Vec3<T>& mean,
                                const Sym3<T>& covar, const ProjGrad<T>& g) {
  const Vec3<T> p = to_camera(cam, mean);
  const CamPoint<T> c = CameraMath<T, Model>::fwd(cam, p);
  const Jacobian<T> k = jac_mul(c.j, cam.r), ks = jac_mul_sym(k, covar);
  const Sym2<T> g2 = lowpass_vjp(lowpass(jac_gram(ks, k), eps2d), eps2d, g);
  const Jacobian<T> g_k = sym_mul(Sym2<T>{2 * g2.xx, 2 * g2.xy, 2 * g2.yy}, ks);
  return {point_vjp<T, Model>(cam, mean, p, c.j, g_k, g), jac_mul_tn(k, sym_mul(g2, k))};
}

}  // namespace mmc
