// Real spherical harmonics of degree 0 to 4 and their gradient by the direction.
#pragma once
#include "math/vecmat.h"

namespace mmc {

MMC_HD constexpr int sh_count(int degree) { return (degree + 1) * (degree + 1); }

template <typename T>
struct ShConst {
  static constexpr T c0 = T(0.28209479177387814), c1 = T(0.4886025119029199);
  static constexpr T c2a = T(1.0925484305920792), c2b = T(0.31539156525252005),
                     c2c = T(0.5462742152960396);
  static constexpr T c3a = T(0.5900435899266435), c3b = T(2.890611442640554),
                     c3c = T(0.4570457994644658), c3d = T(0.3731763325901154),
                     c3e = T(1.445305721320277);
  static constexpr T c4a = T(2.5033429417967046), c4b = T(1.7701307697799304),
                     c4c = T(0.9461746957575601), c4d = T(0.6690465435572892),
                     c4e = T(0.10578554691520431), c4f = T(0.47308734787878004),
                     c4g = T(0.6258357354491761);
};

// Unit direction and 1/length; the zero vector stays zero.
template <typename T>
MMC_HD Vec3<T> unit_direction(const Vec3<T>& v, T& inv_norm) {
  const T n2 = dot(v, v);
  const bool zero = !(n2 > T(0));
  inv_norm = select(zero, T(0), T(1) / sqrt_(select(zero, T(1), n2)));
  return inv_norm * v;
}

// y[k * stride] = Y_k(d) for k < (Degree + 1)^2
template <typename T, int Degree>
MMC_HD void sh_basis(const Vec3<T>& d, T* y, int stride) {
  using C = ShConst<T>;
  const T px = d.x, py = d.y, pz = d.z;
  y[0] = C::c0;
  if (Degree < 1) return;
  y[1 * stride] = -C::c1 * py;
  y[2 * stride] = C::c1 * pz;
  y[3 * stride] = -C::c1 * px;
  if (Degree < 2) return;
  const T xx = px * px, yy = py * py, zz = pz * pz, xy = px * py, yz = py * pz, xz = px * pz;
  y[4 * stride] = C::c2a * xy;
  y[5 * stride] = -C::c2a * yz;
  y[6 * stride] = C::c2b * (2 * zz - xx - yy);
  y[7 * stride] = -C::c2a * xz;
  y[8 * stride] = C::c2c * (xx - yy);
  if (Degree < 3) return;
  y[9 * stride] = -C::c3a * py * (3 * xx - yy);
  y[10 * stride] = C::c3b * xy * pz;
  y[11 * stride] = -C::c3c * py * (4 * zz - xx - yy);
  y[12 * stride] = C::c3d * pz * (2 * zz - 3 * xx - 3 * yy);
  y[13 * stride] = -C::c3c * px * (4 * zz - xx - yy);
  y[14 * stride] = C::c3e * pz * (xx - yy);
  y[15 * stride] = -C::c3a * px * (xx - 3 * yy);
  if (Degree < 4) return;
  y[16 * stride] = C::c4a * xy * (xx - yy);
  y[17 * stride] = -C::c4b * yz * (3 * xx - yy);
  y[18 * stride] = C::c4c * xy * (7 * zz - 1);
  y[19 * stride] = -C::c4d * yz * (7 * zz - 3);
  y[20 * stride] = C::c4e * (35 * zz * zz - 30 * zz + 3);
  y[21 * stride] = -C::c4d * xz * (7 * zz - 3);
  y[22 * stride] = C::c4f * (xx - yy) * (7 * zz - 1);
  y[23 * stride] = -C::c4b * xz * (xx - 3 * yy);
  y[24 * stride] = C::c4g * (xx * (xx - 3 * yy) - yy * (3 * xx - yy));
}

// sum_k g[k * stride] grad Y_k(d), before the projection onto the sphere
template <typename T, int Degree>
MMC_HD Vec3<T> sh_basis_vjp(const Vec3<T>& d, const T* g, int stride) {
  using C = ShConst<T>;
  Vec3<T> o{T(0), T(0), T(0)};
  if (Degree < 1) return o;
  o = {-C::c1 * g[3 * stride], -C::c1 * g[1 * stride], C::c1 * g[2 * stride]};
  if (Degree < 2) return o;
  const T px = d.x, py = d.y, pz = d.z;
  const T xx = px * px, yy = py * py, zz = pz * pz, xy = px * py, yz = py * pz, xz = px * pz;
  {
    const T g4 = C::c2a * g[4 * stride], g5 = -C::c2a * g[5 * stride];
    const T g6 = C::c2b * g[6 * stride], g7 = -C::c2a * g[7 * stride];
    const T g8 = C::c2c * g[8 * stride];
    o.x += g4 * py - 2 * g6 * px + g7 * pz + 2 * g8 * px;
    o.y += g4 * px + g5 * pz - 2 * g6 * py - 2 * g8 * py;
    o.z += g5 * py + 4 * g6 * pz + g7 * px;
  }
  if (Degree < 3) return o;
  {
    const T g9 = -C::c3a * g[9 * stride], g10 = C::c3b * g[10 * stride];
    const T g11 = -C::c3c * g[11 * stride], g12 = C::c3d * g[12 * stride];
    const T g13 = -C::c3c * g[13 * stride], g14 = C::c3e * g[14 * stride];
    const T g15 = -C::c3a * g[15 * stride];
    o.x += 6 * g9 * xy + g10 * yz - 2 * g11 * xy - 6 * g12 * xz +
           g13 * (4 * zz - 3 * xx - yy) + 2 * g14 * xz + 3 * g15 * (xx - yy);
    o.y += 3 * g9 * (xx - yy) + g10 * xz + g11 * (4 * zz - xx - 3 * yy) - 6 * g12 * yz -
           2 * g13 * xy - 2 * g14 * yz - 6 * g15 * xy;
    o.z += g10 * xy + 8 * g11 * yz + 3 * g12 * (2 * zz - xx - yy) + 8 * g13 * xz +
           g14 * (xx - yy);
  }
  if (Degree < 4) return o;
  {
    const T g16 = C::c4a * g[16 * stride], g17 = -C::c4b * g[17 * stride];
    const T g18 = C::c4c * g[18 * stride], g19 = -C::c4d * g[19 * stride];
    const T g20 = C::c4e * g[20 * stride], g21 = -C::c4d * g[21 * stride];
    const T g22 = C::c4f * g[22 * stride], g23 = -C::c4b * g[23 * stride];
    const T g24 = C::c4g * g[24 * stride];
    const T z7m1 = 7 * zz - 1, z7m3 = 7 * zz - 3;
    o.x += g16 * py * (3 * xx - yy) + 6 * g17 * xy * pz + g18 * py * z7m1 + g21 * pz * z7m3 +
           2 * g22 * px * z7m1 + 3 * g23 * pz * (xx - yy) + g24 * (4 * px * xx - 12 * px * yy);
    o.y += g16 * px * (xx - 3 * yy) + 3 * g17 * pz * (xx - yy) + g18 * px * z7m1 +
           g19 * pz * z7m3 - 2 * g22 * py * z7m1 - 6 * g23 * xy * pz +
           g24 * (4 * py * yy - 12 * xx * py);
    o.z += g17 * py * (3 * xx - yy) + 14 * g18 * xy * pz + g19 * py * (21 * zz - 3) +
           g20 * (140 * zz * pz - 60 * pz) + g21 * px * (21 * zz - 3) +
           14 * g22 * pz * (xx - yy) + g23 * px * (xx - 3 * yy);
  }
  return o;
}

// Gradient of the raw direction from that of the unit one.
template <typename T>
MMC_HD Vec3<T> unit_direction_vjp(const Vec3<T>& d, T inv_norm, const Vec3<T>& g) {
  const T along = dot(d, g);
  return {(g.x - d.x * along) * inv_norm, (g.y - d.y * along) * inv_norm,
          (g.z - d.z * along) * inv_norm};
}

}  // namespace mmc
