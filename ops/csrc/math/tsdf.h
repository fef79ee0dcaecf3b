// Truncated signed distance: what one view says about one voxel, and the running mean.
#pragma once
#include "math/hd.h"

namespace mmc {

template <typename T>
struct TsdfView {
  T fx, fy, cx, cy;
  int32_t width, height;
  T trunc, max_depth, weight;
  const float* depth;   // [height][width], z-depth in metres
  const uint8_t* mask;  // null: all pixels
};

// Pixel that a point in camera coordinates falls into, -1 if none (behind, or outside).
template <typename T>
MMC_HD int64_t tsdf_pixel(const TsdfView<T>& v, T x, T y, T z) {
  if (!(z > T(0))) return -1;
  const T u = floor_(v.fx * x / z + v.cx), w = floor_(v.fy * y / z + v.cy);
  if (!(u >= T(0) && u < T(v.width) && w >= T(0) && w < T(v.height))) return -1;
  return int64_t(w) * v.width + int64_t(u);
}

// Truncated distance of a voxel at depth z whose pixel is given; false if it tells nothing.
template <typename T>
MMC_HD bool tsdf_value(const TsdfView<T>& v, int64_t pixel, T z, T* value) {
  if (v.mask && !v.mask[pixel]) return false;
  const T d = static_cast<T>(v.depth[pixel]);
  if (!(d > T(0) && d <= v.max_depth)) return false;  // also NaN
  const T sdf = d - z;
  if (sdf < -v.trunc) return false;
  *value = min_(T(1), sdf / v.trunc);
  return true;
}

template <typename T>
MMC_HD T running_mean(T mean, T weight, T value, T added) {
  return (mean * weight + value * added) / (weight + added);
}

}  // namespace mmc
