// The plane of a flat Gaussian, and the depth at which a pixel's ray meets a blended plane.
#pragma once
#include "math/cameras.h"
#include "math/quat.h"

namespace mmc {

// Axis of the smallest scale; the first of equal ones.
template <typename T>
MMC_HD int thin_axis(const Vec3<T>& s) {
  return s.x <= s.y && s.x <= s.z ? 0 : (s.y <= s.z ? 1 : 2);
}

template <typename T>
MMC_HD Vec3<T> pick_column(const Mat3<T>& m, int axis) {
  return {select(axis == 0, m.m[0][0], select(axis == 1, m.m[0][1], m.m[0][2])),
          select(axis == 0, m.m[1][0], select(axis == 1, m.m[1][1], m.m[1][2])),
          select(axis == 0, m.m[2][0], select(axis == 1, m.m[2][1], m.m[2][2]))};
}

// One Gaussian seen by one camera.
template <typename T>
struct Plane {
  Vec3<T> world;   // unit normal in the world, towards the camera
  Vec3<T> normal;  // the same in the camera's frame
  Vec3<T> centre;  // of the Gaussian, in the camera's frame
  T turn;          // -1 where the axis was turned round, else 1
  T signed_distance;
};

template <typename T>
MMC_HD Plane<T> plane_of(const Camera<T>& cam, const Vec3<T>& mean, const Quat<T>& quat,
                         const Vec3<T>& scale) {
  const Vec3<T> axis = pick_column(rotmat(normalize(quat).u), thin_axis(scale));
  Plane<T> p;
  p.turn = select(dot(axis, camera_center(cam) - mean) >= T(0), T(1), T(-1));
  p.world = p.turn * axis;
  p.normal = mul(cam.r, p.world);
  p.centre = mul(cam.r, mean) + cam.t;
  p.signed_distance = dot(p.normal, p.centre);
  return p;
}

template <typename T>
struct PlaneGrad {
  Vec3<T> mean;
  Quat<T> quat;
  Mat3<T> r;  // of the camera
  Vec3<T> t;
};

// From the gradients of the normal and of the distance |signed_distance|. None reaches the choice
// of the axis and the turn.
template <typename T>
MMC_HD PlaneGrad<T> plane_vjp(const Camera<T>& cam, const Vec3<T>& mean, const Quat<T>& quat,
                              const Vec3<T>& scale, const Vec3<T>& g_normal, T g_distance) {
  const Plane<T> p = plane_of(cam, mean, quat, scale);
  const T g = select(p.signed_distance > T(0), g_distance,
                     select(p.signed_distance < T(0), -g_distance, T(0)));
  const Vec3<T> gn = g_normal + g * p.centre, gc = g * p.normal;
  const Vec3<T> ga = p.turn * mul_t(cam.r, gn);  // of the unturned axis
  const int axis = thin_axis(scale);
  const Vec3<T> zero{T(0), T(0), T(0)};
  const Mat3<T> g_rot = from_columns(axis == 0 ? ga : zero, axis == 1 ? ga : zero,
                                     axis == 2 ? ga : zero);
  return {mul_t(cam.r, gc),
          rotmat_vjp(normalize(quat), g_rot),
          from_columns(p.world.x * gn + mean.x * gc, p.world.y * gn + mean.y * gc,
                       p.world.z * gn + mean.z * gc),
          gc};
}

template <typename T>
struct PlaneDepthLimits {
  T min_alpha, min_cosine;
};
template <typename T>
struct PlaneRay {  // 1 / f and principal point
  T inv_fx, inv_fy, cx, cy;
};

template <typename T>
MMC_HD T plane_epsilon() {
  return T(1e-8);
}

// N . r for the ray through pixel (x, y)
template <typename T>
MMC_HD T along_ray(const PlaneRay<T>& k, int64_t x, int64_t y, const T* normal) {
  const T rx = (T(x) + T(0.5) - k.cx) * k.inv_fx, ry = (T(y) + T(0.5) - k.cy) * k.inv_fy;
  return normal[0] * rx + normal[1] * ry + normal[2];
}

template <typename T>
MMC_HD bool plane_valid(T along, T alpha, const PlaneDepthLimits<T>& limits) {
  return alpha > limits.min_alpha && -along > limits.min_cosine * alpha;
}
template <typename T>
MMC_HD T plane_depth(T along, T distance) {
  return distance / -(along + plane_epsilon<T>());
}

// Gradients of the blended distance and normal at a valid pixel.
template <typename T>
MMC_HD void plane_depth_vjp(const PlaneRay<T>& k, int64_t x, int64_t y, const T* normal,
                            T distance, T g, T* v_normal, T& v_distance) {
  const T rx = (T(x) + T(0.5) - k.cx) * k.inv_fx, ry = (T(y) + T(0.5) - k.cy) * k.inv_fy;
  const T inv = T(1) / (along_ray(k, x, y, normal) + plane_epsilon<T>());
  const T by_ray = g * distance * inv * inv;
  v_distance = -g * inv;
  v_normal[0] = by_ray * rx;
  v_normal[1] = by_ray * ry;
  v_normal[2] = by_ray;
}

}  // namespace mmc
