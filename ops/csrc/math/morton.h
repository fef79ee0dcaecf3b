// Order of points along a Morton curve, and distances to boxes.
#pragma once
#include "math/hd.h"

namespace mmc {

// The lowest ten bits, two zeros between each.
MMC_HD uint32_t spread_bits(uint32_t x) {
  x &= 0x3ffu;
  x = (x | x << 16) & 0x030000ffu;
  x = (x | x << 8) & 0x0300f00fu;
  x = (x | x << 4) & 0x030c30c3u;
  x = (x | x << 2) & 0x09249249u;
  return x;
}

// 30 bits: ten per axis of a position in the box [lo, hi].
template <typename T>
MMC_HD uint32_t morton_key(const T* p, const T* lo, const T* hi) {
  uint32_t key = 0;
  for (int d = 0; d < 3; ++d) {
    const T extent = hi[d] - lo[d];
    const T unit = extent > T(0) ? (p[d] - lo[d]) / extent : T(0);
    key |= spread_bits(static_cast<uint32_t>(clamp_(unit * T(1024), T(0), T(1023)))) << (2 - d);
  }
  return key;
}

// box: lower, then upper corner.
template <typename T>
MMC_HD T box_dist2(const T* box, const T* q) {
  T sum = T(0);
  for (int d = 0; d < 3; ++d) {
    const T off = max_(max_(box[d] - q[d], q[d] - box[3 + d]), T(0));
    sum += off * off;
  }
  return sum;
}

// Floats as unsigned numbers of the same order.
MMC_HD uint32_t ordered_bits(uint32_t bits) {
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
MMC_HD uint32_t unordered_bits(uint32_t key) {
  return key >> 31 ? key & 0x7fffffffu : ~key;
}

}  // namespace mmc
