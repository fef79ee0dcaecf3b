// Covariance M M^T with M = R diag(s), and precision with diag(1/s).
#pragma once
#include "math/quat.h"

namespace mmc {

template <typename T>
MMC_HD Mat3<T> scale_columns(const Mat3<T>& r, const Vec3<T>& s) {
  return {{{r.m[0][0] * s.x, r.m[0][1] * s.y, r.m[0][2] * s.z},
           {r.m[1][0] * s.x, r.m[1][1] * s.y, r.m[1][2] * s.z},
           {r.m[2][0] * s.x, r.m[2][1] * s.y, r.m[2][2] * s.z}}};
}

// sum_i a_ik b_ik for each column k
template <typename T>
MMC_HD Vec3<T> column_dots(const Mat3<T>& a, const Mat3<T>& b) {
  return {a.m[0][0] * b.m[0][0] + a.m[1][0] * b.m[1][0] + a.m[2][0] * b.m[2][0],
          a.m[0][1] * b.m[0][1] + a.m[1][1] * b.m[1][1] + a.m[2][1] * b.m[2][1],
          a.m[0][2] * b.m[0][2] + a.m[1][2] * b.m[1][2] + a.m[2][2] * b.m[2][2]};
}

template <typename T>
MMC_HD Vec3<T> reciprocal(const Vec3<T>& s) {
  return {T(1) / s.x, T(1) / s.y, T(1) / s.z};
}

template <typename T>
MMC_HD Sym3<T> covar_fwd(const Quat<T>& q, const Vec3<T>& s) {
  return outer_self(scale_columns(rotmat(normalize(q).u), s));
}

template <typename T>
MMC_HD Sym3<T> preci_fwd(const Quat<T>& q, const Vec3<T>& s) {
  return covar_fwd(q, reciprocal(s));
}

template <typename T>
struct RotScaleGrad {
  Quat<T> quat;
  Vec3<T> scale;
};

// g is the gradient of M = R diag(s). Results are returned, not assigned through references:
// only so does GCC keep them in registers and vectorize the callers' loops.
template <typename T>
MMC_HD RotScaleGrad<T> scaled_rotation_vjp(const UnitQuat<T>& u, const Mat3<T>& r,
                                           const Vec3<T>& s, const Mat3<T>& g) {
  return {rotmat_vjp(u, scale_columns(g, s)), column_dots(r, g)};
}

// (G + G^T) M
template <typename T>
MMC_HD Mat3<T> factor_vjp(const Mat3<T>& g, const Mat3<T>& m) {
  const Sym3<T> sum{2 * g.m[0][0],           g.m[0][1] + g.m[1][0], g.m[0][2] + g.m[2][0],
                    2 * g.m[1][1],           g.m[1][2] + g.m[2][1], 2 * g.m[2][2]};
  return mul(full(sum), m);
}

template <typename T>
MMC_HD RotScaleGrad<T> covar_vjp(const Quat<T>& q, const Vec3<T>& s, const Mat3<T>& g) {
  const UnitQuat<T> u = normalize(q);
  const Mat3<T> r = rotmat(u.u);
  return scaled_rotation_vjp(u, r, s, factor_vjp(g, scale_columns(r, s)));
}

template <typename T>
MMC_HD RotScaleGrad<T> preci_vjp(const Quat<T>& q, const Vec3<T>& s, const Mat3<T>& g) {
  const Vec3<T> i = reciprocal(s);
  const RotScaleGrad<T> o = covar_vjp(q, i, g);
  return {o.quat, {-o.scale.x * i.x * i.x, -o.scale.y * i.y * i.y, -o.scale.z * i.z * i.z}};
}

}  // namespace mmc
