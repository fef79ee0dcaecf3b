// Frustum test of spheres and points, and the level of detail that a distance asks for.
#pragma once
#include "math/cameras.h"

namespace mmc {

template <typename T>
struct Frustum {
  Camera<T> cam;
  T near_plane, far_plane;
  T len_left, len_right, len_top, len_bottom;  // lengths of the side planes' normals
};

template <typename T>
MMC_HD Frustum<T> make_frustum(const Camera<T>& c, T near_plane, T far_plane) {
  const auto len = [](T a, T b) { return sqrt_(a * a + b * b); };
  return {c,
          near_plane,
          far_plane,
          len(c.fx, c.cx),
          len(c.fx, c.width - c.cx),
          len(c.fy, c.cy),
          len(c.fy, c.height - c.cy)};
}

template <typename T>
MMC_HD bool sphere_visible(const Frustum<T>& f, const Vec3<T>& point, T r) {
  const Camera<T>& c = f.cam;
  const Vec3<T> p = mul(c.r, point) + c.t;
  return (p.z >= f.near_plane - r) & (p.z <= f.far_plane + r) &
         (c.fx * p.x + c.cx * p.z >= -r * f.len_left) &
         (-c.fx * p.x + (c.width - c.cx) * p.z >= -r * f.len_right) &
         (c.fy * p.y + c.cy * p.z >= -r * f.len_top) &
         (-c.fy * p.y + (c.height - c.cy) * p.z >= -r * f.len_bottom);
}

template <typename T>
MMC_HD bool center_visible(const Frustum<T>& f, const Vec3<T>& point) {
  const Camera<T>& c = f.cam;
  const Vec3<T> p = mul(c.r, point) + c.t;
  const T z = select(p.z > T(0), p.z, T(1));
  const T u = c.fx * p.x / z + c.cx, v = c.fy * p.y / z + c.cy;
  return (p.z > f.near_plane) & (p.z < f.far_plane) & (u >= T(0)) & (u < c.width) &
         (v >= T(0)) & (v < c.height);
}

// Wanted level, real-valued. half_voxel: 0.5 voxel_size / fork^level of the anchor.
template <typename T>
MMC_HD T wanted_level(const Vec3<T>& anchor, T half_voxel, const Vec3<T>& center,
                      T standard_dist, T resolution_scale, T inv_log_fork, T extra) {
  const Vec3<T> d{anchor.x + half_voxel - center.x, anchor.y + half_voxel - center.y,
                  anchor.z + half_voxel - center.z};
  const T distance = sqrt_(dot(d, d)) * resolution_scale;
  return log_(standard_dist / distance) * inv_log_fork + extra;
}

}  // namespace mmc
