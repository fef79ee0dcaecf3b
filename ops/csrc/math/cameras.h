// Camera models: pixel position of a camera-frame point, and the Jacobian that carries
// covariances, with their gradients.
#pragma once
#include "math/vecmat.h"

namespace mmc {

enum CameraModel : int { kPinhole = 0, kOrtho = 1, kFisheye = 2 };

// One camera: world to camera (r, t), intrinsics, image size.
template <typename T>
struct Camera {
  Mat3<T> r;
  Vec3<T> t;
  T fx, fy, cx, cy, width, height;
  T lim_x_lo, lim_x_hi, lim_y_lo, lim_y_hi;  // clip of x/z and y/z inside the Jacobian
};

// viewmat: 16 row-major numbers, K: 9.
template <typename S, typename T>
MMC_HD Camera<T> make_camera(const S* viewmat, const S* K, T width, T height) {
  Camera<T> c;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) c.r.m[i][j] = T(viewmat[4 * i + j]);
  c.t = {T(viewmat[3]), T(viewmat[7]), T(viewmat[11])};
  c.fx = T(K[0]);
  c.fy = T(K[4]);
  c.cx = T(K[2]);
  c.cy = T(K[5]);
  c.width = width;
  c.height = height;
  const T mx = T(0.15) * width / c.fx, my = T(0.15) * height / c.fy;
  c.lim_x_lo = -(c.cx / c.fx + mx);
  c.lim_x_hi = (width - c.cx) / c.fx + mx;
  c.lim_y_lo = -(c.cy / c.fy + my);
  c.lim_y_hi = (height - c.cy) / c.fy + my;
  return c;
}

template <typename T>
MMC_HD Vec3<T> camera_center(const Camera<T>& c) {
  const Vec3<T> p = mul_t(c.r, c.t);
  return {-p.x, -p.y, -p.z};
}

template <typename T>
struct Jacobian {  // 2 x 3
  T m[2][3];
};

template <typename T>
struct CamPoint {
  T u, v;
  Jacobian<T> j;
};

template <typename T, int Model>
struct CameraMath;

template <typename T>
struct CameraMath<T, kPinhole> {
  static MMC_HD CamPoint<T> fwd(const Camera<T>& c, const Vec3<T>& p) {
    const T rz = T(1) / p.z, xn = p.x * rz, yn = p.y * rz;
    const T tx = clamp_(xn, c.lim_x_lo, c.lim_x_hi), ty = clamp_(yn, c.lim_y_lo, c.lim_y_hi);
    return {c.fx * xn + c.cx,
            c.fy * yn + c.cy,
            {{{c.fx * rz, T(0), -c.fx * tx * rz}, {T(0), c.fy * rz, -c.fy * ty * rz}}}};
  }
  static MMC_HD Vec3<T> vjp(const Camera<T>& c, const Vec3<T>& p, T gu, T gv,
                            const Jacobian<T>& g) {
    const T rz = T(1) / p.z, rz2 = rz * rz, xn = p.x * rz, yn = p.y * rz;
    const T tx = clamp_(xn, c.lim_x_lo, c.lim_x_hi), ty = clamp_(yn, c.lim_y_lo, c.lim_y_hi);
    const bool in_x = (xn >= c.lim_x_lo) & (xn <= c.lim_x_hi);
    const bool in_y = (yn >= c.lim_y_lo) & (yn <= c.lim_y_hi);
    const T jx = c.fx * rz2 * g.m[0][2], jy = c.fy * rz2 * g.m[1][2];
    // with a free clip the ratio carries 1/z itself, with an active one only the factor 1/z does
    const T gx = c.fx * rz * gu - select(in_x, jx, T(0));
    const T gy = c.fy * rz * gv - select(in_y, jy, T(0));
    T gz = -(c.fx * xn * gu + c.fy * yn * gv) * rz;
    gz += -c.fx * rz2 * g.m[0][0] - c.fy * rz2 * g.m[1][1];
    gz += select(in_x, T(2), T(1)) * tx * jx + select(in_y, T(2), T(1)) * ty * jy;
    return {gx, gy, gz};
  }
};

template <typename T>
struct CameraMath<T, kOrtho> {
  static MMC_HD CamPoint<T> fwd(const Camera<T>& c, const Vec3<T>& p) {
    return {c.fx * p.x + c.cx,
            c.fy * p.y + c.cy,
            {{{c.fx, T(0), T(0)}, {T(0), c.fy, T(0)}}}};
  }
  static MMC_HD Vec3<T> vjp(const Camera<T>& c, const Vec3<T>&, T gu, T gv, const Jacobian<T>&) {
    return {c.fx * gu, c.fy * gv, T(0)};
  }
};

// Equidistant fisheye. The small numbers keep the axis regular; they are part of the model.
template <typename T>
struct CameraMath<T, kFisheye> {
  static constexpr T eps = T(1e-7);

  static MMC_HD CamPoint<T> fwd(const Camera<T>& c, const Vec3<T>& p) {
    const T r = sqrt_(p.x * p.x + p.y * p.y) + eps;
    const T k = atan2_(r, p.z + eps) / r;
    const T x2 = p.x * p.x + eps, y2 = p.y * p.y, xy = p.x * p.y, q = x2 + y2;
    const T s = T(1) / (q + p.z * p.z), b = atan2_(r, p.z) / (r * q), a = p.z * s / q;
    return {c.fx * p.x * k + c.cx,
            c.fy * p.y * k + c.cy,
            {{{c.fx * (x2 * a + y2 * b), c.fx * xy * (a - b), -c.fx * p.x * s},
              {c.fy * xy * (a - b), c.fy * (y2 * a + x2 * b), -c.fy * p.y * s}}}};
  }

  static MMC_HD Vec3<T> vjp(const Camera<T>& c, const Vec3<T>& p, T gu, T gv,
                            const Jacobian<T>& g) {
    const T r0 = sqrt_(p.x * p.x + p.y * p.y), r = r0 + eps;
    const T x2 = p.x * p.x + eps, y2 = p.y * p.y, xy = p.x * p.y, q = x2 + y2;
    const T s = T(1) / (q + p.z * p.z), theta0 = atan2_(r, p.z), b = theta0 / (r * q);
    const T a = p.z * s / q;
    // position
    const T ze = p.z + eps, theta = atan2_(r, ze), k = theta / r;
    T gx = c.fx * gu * k, gy = c.fy * gv * k, gz = T(0);
    const T gk = c.fx * p.x * gu + c.fy * p.y * gv;
    const T g_theta = gk / r, inv = T(1) / (r * r + ze * ze);
    T gr = -gk * k / r + g_theta * ze * inv;
    gz -= g_theta * r * inv;
    // Jacobian: first its direct factors, then a, b, s, q, r
    const T j00 = c.fx * g.m[0][0], j01 = c.fx * g.m[0][1], j02 = c.fx * g.m[0][2];
    const T j10 = c.fy * g.m[1][0], j11 = c.fy * g.m[1][1], j12 = c.fy * g.m[1][2];
    const T cross = j01 + j10;
    T gx2 = a * j00 + b * j11, gy2 = b * j00 + a * j11;
    const T ga = x2 * j00 + xy * cross + y2 * j11;
    const T gb = y2 * j00 - xy * cross + x2 * j11;
    T gs = -p.x * j02 - p.y * j12;
    gx += p.y * (a - b) * cross - s * j02;
    gy += p.x * (a - b) * cross - s * j12;
    gz += ga * s / q;
    gs += ga * p.z / q;
    T gq = -ga * a / q - gb * b / q;
    const T g_theta0 = gb / (r * q), inv0 = T(1) / (r * r + p.z * p.z);
    gr += -gb * b / r + g_theta0 * p.z * inv0;
    gz -= g_theta0 * r * inv0;
    gq -= gs * s * s;
    gz -= 2 * p.z * gs * s * s;
    gx2 += gq;
    gy2 += gq;
    const bool on_axis = !(r0 > T(0));
    const T gr0 = select(on_axis, T(0), gr / select(on_axis, T(1), r0));
    gx += 2 * p.x * gx2 + gr0 * p.x;
    gy += 2 * p.y * gy2 + gr0 * p.y;
    return {gx, gy, gz};
  }
};

}  // namespace mmc
