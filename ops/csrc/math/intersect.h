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

template <typename T>
MMC_HD EllipseBand<T> ellipse_band(T a, T b, T c, T level) {
  const T t = level * T(1 + kLevelSlack) + T(kLevelSlack);
  const T det = diff_of_products(a, c, b, b);
  if (!(level > T(0))) return {T(-1), T(0), T(0), T(0), T(0)};
  // A conic that is singular in this precision keeps its whole box.
  if (!(det > T(1e-30)) || !(a > T(0)) || !(c > T(0))) return {T(1e30), T(0), T(0), T(1e30), T(0)};
  const T ia = T(1) / a;
  const T half_y = sqrt_(t * a / det);
  const T half_x = sqrt_(t * c / det);
  return {half_y, -b / c * half_x, -b * ia, t * ia, det * ia * ia};
}

// 2 ln(255 o), at most EXTENT^2.
template <typename T>
MMC_HD T alpha_level(T opacity) {
  const T full = Splat<T>::extent * Splat<T>::extent;
  if (!(opacity > T(0))) return T(-1);
  return min_(full, T(2) * log_(T(255) * opacity));
}

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
