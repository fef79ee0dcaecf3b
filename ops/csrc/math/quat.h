// Quaternions (w, x, y, z) of any length to rotation matrices, and back through the gradient.
#pragma once
#include "math/vecmat.h"

namespace mmc {

template <typename T>
struct Quat {
  T w, x, y, z;
};

template <typename T>
MMC_HD Quat<T> load_quat(const T* p) {  // [4], wxyz
  return {p[0], p[1], p[2], p[3]};
}

template <typename T>
struct UnitQuat {
  Quat<T> u;
  T inv_norm;  // 0 for a zero quaternion, which counts as the identity
};

template <typename T>
MMC_HD UnitQuat<T> normalize(const Quat<T>& q) {
  const T n2 = q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z;
  const bool zero = !(n2 > T(0));
  const T inv = select(zero, T(0), T(1) / sqrt_(select(zero, T(1), n2)));
  return {{select(zero, T(1), q.w * inv), q.x * inv, q.y * inv, q.z * inv}, inv};
}

template <typename T>
MMC_HD Mat3<T> rotmat(const Quat<T>& u) {
  const T xx = u.x * u.x, yy = u.y * u.y, zz = u.z * u.z;
  const T xy = u.x * u.y, xz = u.x * u.z, yz = u.y * u.z;
  const T wx = u.w * u.x, wy = u.w * u.y, wz = u.w * u.z;
  return {{{1 - 2 * (yy + zz), 2 * (xy - wz), 2 * (xz + wy)},
           {2 * (xy + wz), 1 - 2 * (xx + zz), 2 * (yz - wx)},
           {2 * (xz - wy), 2 * (yz + wx), 1 - 2 * (xx + yy)}}};
}

// Gradient of the raw quaternion from that of the rotation matrix.
template <typename T>
MMC_HD Quat<T> rotmat_vjp(const UnitQuat<T>& q, const Mat3<T>& g) {
  const Quat<T>& u = q.u;
  const T d21 = g.m[2][1] - g.m[1][2], d02 = g.m[0][2] - g.m[2][0], d10 = g.m[1][0] - g.m[0][1];
  const T s01 = g.m[0][1] + g.m[1][0], s02 = g.m[0][2] + g.m[2][0], s12 = g.m[1][2] + g.m[2][1];
  const T gw = 2 * (u.x * d21 + u.y * d02 + u.z * d10);
  const T gx = 2 * (-2 * u.x * (g.m[1][1] + g.m[2][2]) + u.y * s01 + u.z * s02 + u.w * d21);
  const T gy = 2 * (u.x * s01 - 2 * u.y * (g.m[0][0] + g.m[2][2]) + u.z * s12 + u.w * d02);
  const T gz = 2 * (u.x * s02 + u.y * s12 - 2 * u.z * (g.m[0][0] + g.m[1][1]) + u.w * d10);
  const T along = u.w * gw + u.x * gx + u.y * gy + u.z * gz;
  return {(gw - u.w * along) * q.inv_norm, (gx - u.x * along) * q.inv_norm,
          (gy - u.y * along) * q.inv_norm, (gz - u.z * along) * q.inv_norm};
}

}  // namespace mmc
