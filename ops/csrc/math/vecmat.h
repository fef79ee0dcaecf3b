// Small vectors and matrices, value types without constructors so that they stay in registers.
#pragma once
#include "math/hd.h"

namespace mmc {

template <typename T>
struct Vec2 {
  T x, y;
};
template <typename T>
struct Vec3 {
  T x, y, z;
};
template <typename T>
struct Vec4 {
  T x, y, z, w;
};
// Row-major: m[row][col].
template <typename T>
struct Mat3 {
  T m[3][3];
};
template <typename T>
struct Sym2 {
  T xx, xy, yy;
};
// Triangular storage order (11, 12, 13, 22, 23, 33).
template <typename T>
struct Sym3 {
  T xx, xy, xz, yy, yz, zz;
};

template <typename T>
MMC_HD Vec3<T> load_vec(const T* p) {  // [3]
  return {p[0], p[1], p[2]};
}
template <typename T>
MMC_HD Mat3<T> load_matrix(const T* p) {  // [3, 3]
  return {{{p[0], p[1], p[2]}, {p[3], p[4], p[5]}, {p[6], p[7], p[8]}}};
}
// The symmetric part.
template <typename T>
MMC_HD Sym3<T> load_symmetric(const T* p) {  // [3, 3]
  return {p[0], T(0.5) * (p[1] + p[3]), T(0.5) * (p[2] + p[6]),
          p[4], T(0.5) * (p[5] + p[7]), p[8]};
}

template <typename T>
MMC_HD Vec3<T> operator+(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <typename T>
MMC_HD Vec3<T> operator-(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <typename T>
MMC_HD Vec3<T> operator*(T s, const Vec3<T>& a) {
  return {s * a.x, s * a.y, s * a.z};
}
template <typename T>
MMC_HD T dot(const Vec3<T>& a, const Vec3<T>& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <typename T>
MMC_HD Vec3<T> cross(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <typename T>
MMC_HD Vec3<T> mul(const Mat3<T>& a, const Vec3<T>& v) {
  return {a.m[0][0] * v.x + a.m[0][1] * v.y + a.m[0][2] * v.z,
          a.m[1][0] * v.x + a.m[1][1] * v.y + a.m[1][2] * v.z,
          a.m[2][0] * v.x + a.m[2][1] * v.y + a.m[2][2] * v.z};
}
// A^T v
template <typename T>
MMC_HD Vec3<T> mul_t(const Mat3<T>& a, const Vec3<T>& v) {
  return {a.m[0][0] * v.x + a.m[1][0] * v.y + a.m[2][0] * v.z,
          a.m[0][1] * v.x + a.m[1][1] * v.y + a.m[2][1] * v.z,
          a.m[0][2] * v.x + a.m[1][2] * v.y + a.m[2][2] * v.z};
}
// Products are written out: GCC vectorizes loops over lanes only if nothing inside loops.
template <typename T>
MMC_HD Mat3<T> from_columns(const Vec3<T>& a, const Vec3<T>& b, const Vec3<T>& c) {
  return {{{a.x, b.x, c.x}, {a.y, b.y, c.y}, {a.z, b.z, c.z}}};
}
template <typename T>
MMC_HD Vec3<T> row(const Mat3<T>& a, int i) {
  return {a.m[i][0], a.m[i][1], a.m[i][2]};
}
template <typename T>
MMC_HD Vec3<T> column(const Mat3<T>& a, int j) {
  return {a.m[0][j], a.m[1][j], a.m[2][j]};
}
template <typename T>
MMC_HD Mat3<T> mul(const Mat3<T>& a, const Mat3<T>& b) {
  return from_columns(mul(a, column(b, 0)), mul(a, column(b, 1)), mul(a, column(b, 2)));
}
// A B^T
template <typename T>
MMC_HD Mat3<T> mul_nt(const Mat3<T>& a, const Mat3<T>& b) {
  return from_columns(mul(a, row(b, 0)), mul(a, row(b, 1)), mul(a, row(b, 2)));
}
template <typename T>
MMC_HD Mat3<T> full(const Sym3<T>& s) {
  return {{{s.xx, s.xy, s.xz}, {s.xy, s.yy, s.yz}, {s.xz, s.yz, s.zz}}};
}
template <typename T>
MMC_HD void store_matrix(const Sym3<T>& s, T* out) {  // [3, 3]
  const Mat3<T> m = full(s);
  for (int k = 0; k < 9; ++k) out[k] = m.m[k / 3][k % 3];
}
template <typename T>
MMC_HD Vec3<T> mul(const Sym3<T>& s, const Vec3<T>& v) {
  return {s.xx * v.x + s.xy * v.y + s.xz * v.z, s.xy * v.x + s.yy * v.y + s.yz * v.z,
          s.xz * v.x + s.yz * v.y + s.zz * v.z};
}
// A B^T where that is known to be symmetric
template <typename T>
MMC_HD Sym3<T> gram(const Mat3<T>& a, const Mat3<T>& b) {
  return {dot(row(a, 0), row(b, 0)), dot(row(a, 0), row(b, 1)), dot(row(a, 0), row(b, 2)),
          dot(row(a, 1), row(b, 1)), dot(row(a, 1), row(b, 2)), dot(row(a, 2), row(b, 2))};
}
// M M^T
template <typename T>
MMC_HD Sym3<T> outer_self(const Mat3<T>& a) {
  return gram(a, a);
}
// R S R^T
template <typename T>
MMC_HD Sym3<T> sandwich(const Mat3<T>& r, const Sym3<T>& s) {
  return gram(mul(r, full(s)), r);
}

}  // namespace mmc
