// Where the level set A dx^2 + 2 B dx dy + C dy^2 <= t of a splat meets horizontal bands.
//
// The part of an ellipse inside a band is convex, so the columns it covers there are the
// interval between its leftmost and rightmost points in the band: the ellipse's extreme points,
// moved into the band.
#pragma once
#include "math/hd.h"

namespace mmc {

constexpr double kLevelSlack = 1e-4;  // widens t so that rounding never drops a needed pixel

template <typename T>
struct EllipseBand {
  T half_y;  // reach above and below the centre; negative: nothing visible
  T skew;    // y offset of the rightmost point
  T slope;   // x of the band's midline per y
  T ta, da;  // half width at height h: sqrt(ta - da h^2)
};

// Branch-free, so that loops over rows vectorize.
template <typename T>
MMC_HD EllipseBand<T> ellipse_band(T a, T b, T c, T level) {
  const T t = level * T(1 + kLevelSlack) + T(kLevelSlack);
  const T det = diff_of_products(a, c, b, b);
  // A conic that is singular in this precision keeps its whole box.
  const bool fine = (det > T(1e-30)) & (a > T(0)) & (c > T(0));
  const bool visible = level > T(0);
  const T ia = T(1) / select(fine, a, T(1)), ic = T(1) / select(fine, c, T(1));
  const T id = T(1) / select(fine, det, T(1));
  const T root = sqrt_(max_(t * id, T(0)));
  const T half_y = root * sqrt_(max_(a, T(0))), half_x = root * sqrt_(max_(c, T(0)));
  EllipseBand<T> e;
  e.half_y = select(visible, select(fine, half_y, T(1e30)), T(-1));
  e.skew = select(fine, -b * ic * half_x, T(0));
  e.slope = select(fine, -b * ia, T(0));
  e.ta = select(fine, t * ia, T(1e30));
  e.da = select(fine, det * ia * ia, T(0));
  return e;
}

// log2 to 1e-5, far inside the slack of the level; vectorizes where the library's does not.
MMC_HD float rough_log2(float x) {
#if defined(__CUDA_ARCH__)
  return __log2f(x);
#else
  int32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const int32_t mantissa = (bits & 0x7fffff) | 0x3f800000;
  float m;
  __builtin_memcpy(&m, &mantissa, sizeof m);
  const float r = m - 1.0f;
  float y = -0.026457414f;
  y = y * r + 0.12345138f;
  y = y * r + -0.27953804f;
  y = y * r + 0.45827076f;
  y = y * r + -0.7182819f;
  y = y * r + 1.4425532f;
  return y * r + static_cast<float>((bits >> 23) - 127);
#endif
}
MMC_HD double rough_log2(double x) { return ::log2(x); }

// 2 ln(255 o), at most EXTENT^2.
template <typename T>
MMC_HD T alpha_level(T opacity) {
  const T full = Splat<T>::extent * Splat<T>::extent;
  const T level = T(2 * 0.69314718055994531) * rough_log2(T(255) * max_(opacity, T(1e-30)));
  return min_(full, level);
}

// Bands of sixteen rows.
template <typename T>
struct EllipseBands {
  alignas(64) T half_y[16], skew[16], slope[16], ta[16], da[16];
  MMC_HD void compute(const T* a, const T* b, const T* c, const T* level) {
    for (int l = 0; l < 16; ++l) {
      const EllipseBand<T> e = ellipse_band(a[l], b[l], c[l], level[l]);
      half_y[l] = e.half_y;
      skew[l] = e.skew;
      slope[l] = e.slope;
      ta[l] = e.ta;
      da[l] = e.da;
    }
  }
  MMC_HD EllipseBand<T> at(int l) const { return {half_y[l], skew[l], slope[l], ta[l], da[l]}; }
};

// Interval of x offsets covered between the y offsets y0 <= y1; false when the band is missed.
template <typename T>
MMC_HD bool band_interval(const EllipseBand<T>& e, T y0, T y1, T& left, T& right) {
  const T h0 = max_(y0, -e.half_y), h1 = min_(y1, e.half_y);
  if (!(h0 <= h1)) return false;
  const T at_right = clamp_(e.skew, h0, h1), at_left = clamp_(-e.skew, h0, h1);
  right = e.slope * at_right + sqrt_(max_(T(0), e.ta - e.da * at_right * at_right));
  left = e.slope * at_left - sqrt_(max_(T(0), e.ta - e.da * at_left * at_left));
  return true;
}

}  // namespace mmc
