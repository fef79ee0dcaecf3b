// Gaussians on voxel grids: boxes, whitening, density and their derivatives; cells of points.
#pragma once
#include "math/exp.h"
#include "math/hd.h"

namespace mmc {

template <typename T>
struct VoxelGrid {
  T lo[3], hi[3], size[3];
  int32_t dims[3];

  MMC_HD T centre(int axis, int32_t index) const {
    return lo[axis] + (T(index) + T(0.5)) * size[axis];
  }
};

struct IndexBox {
  int32_t lo[3], hi[3];  // inclusive; empty where hi < lo
};

MMC_HD IndexBox empty_box() { return {{0, 0, 0}, {-1, -1, -1}}; }

// Voxels within `extent` standard deviations of the mean along the axes, cut to the grid. Empty
// if the range does not meet the volume, or anything is NaN.
template <typename T>
MMC_HD IndexBox gaussian_box(const T* mean, const T* variances, T extent, const VoxelGrid<T>& g) {
  IndexBox box = empty_box();
  int32_t lo[3], hi[3];
  for (int d = 0; d < 3; ++d) {
    const T reach = extent * sqrt_(variances[d]);
    if (!(mean[d] + reach > g.lo[d] && mean[d] - reach < g.hi[d])) return box;
    const T first = clamp_(mean[d] - reach, g.lo[d], g.hi[d]);
    const T last = clamp_(mean[d] + reach, g.lo[d], g.hi[d]);
    lo[d] = min_(static_cast<int32_t>((first - g.lo[d]) / g.size[d]), g.dims[d] - 1);
    hi[d] = min_(static_cast<int32_t>((last - g.lo[d]) / g.size[d]), g.dims[d] - 1);
  }
  for (int d = 0; d < 3; ++d) {
    box.lo[d] = lo[d];
    box.hi[d] = hi[d];
  }
  return box;
}

// Cell of a coordinate, truncated towards zero; far values are cut so that int32 holds them.
template <typename T>
MMC_HD int32_t cell_of(T x, T lo, T size) {
  const T limit = T(1 << 28);
  return static_cast<int32_t>(clamp_((x - lo) / size, -limit, limit));
}

// Cells within `radius` of the mean's cell, cut to the grid; empty for NaN means.
template <typename T>
MMC_HD IndexBox cell_box(const T* mean, int32_t radius, const VoxelGrid<T>& g) {
  IndexBox box = empty_box();
  for (int d = 0; d < 3; ++d)
    if (!(abs_(mean[d]) < T(1e30))) return box;
  radius = min_(radius, 1 << 28);
  for (int d = 0; d < 3; ++d) {
    const int32_t c = cell_of(mean[d], g.lo[d], g.size[d]);
    box.lo[d] = max_(c - radius, 0);
    box.hi[d] = min_(c + radius, g.dims[d] - 1);
  }
  for (int d = 0; d < 3; ++d)
    if (box.hi[d] < box.lo[d]) return empty_box();
  return box;
}

// Lower triangle (11, 21, 22, 31, 32, 33) of a matrix W with exp(-|W d|^2) the Gaussian of the
// offset d. Sums of squares do not cancel for needles, unlike the expanded quadratic form.
template <typename T>
struct Whitening {
  T w[6];
};

// From a covariance S = L L^T (its symmetric part): W = L^-1 / sqrt(2). If S is singular, a
// multiple of the identity is added: 1e-9 of its trace, or 1e-6 where that is zero.
template <typename T>
MMC_HD Whitening<T> whiten_covariance(const T* s) {
  const T a = s[0], b = T(0.5) * (s[1] + s[3]), c = T(0.5) * (s[2] + s[6]);
  const T d = s[4], e = T(0.5) * (s[5] + s[7]), f = s[8];
  const T trace = a + d + f;
  T jitter = T(0);
  Whitening<T> out;
  for (int attempt = 0; attempt < 2; ++attempt) {
    const T p1 = a + jitter, l21 = b / p1, l31 = c / p1;
    const T p2 = d + jitter - l21 * b;
    const T m = e - l31 * b, l32 = m / p2;
    const T p3 = f + jitter - l31 * c - l32 * m;
    const T floor = T(1e-12) * trace;
    if (attempt == 0 && !(p1 > floor && p2 > floor && p3 > floor)) {
      jitter = trace > T(0) ? T(1e-9) * trace : T(1e-6);
      continue;
    }
    const T smallest = max_(jitter, T(1e-30));
    const T r1 = T(1) / sqrt_(T(2) * max_(p1, smallest));
    const T r2 = T(1) / sqrt_(T(2) * max_(p2, smallest));
    const T r3 = T(1) / sqrt_(T(2) * max_(p3, smallest));
    out = {{r1, -l21 * r2, r2, (l21 * l32 - l31) * r3, -l32 * r3, r3}};
    break;
  }
  return out;
}

// From a precision P (its symmetric part): W^T W = P / 2. Negative pivots count as zero.
template <typename T>
MMC_HD Whitening<T> whiten_precision(const T* p) {
  const T half = T(0.5), quarter = T(0.25);
  const T a = half * p[0], b = quarter * (p[1] + p[3]), c = quarter * (p[2] + p[6]);
  const T d = half * p[4], e = quarter * (p[5] + p[7]), f = half * p[8];
  const T w33 = sqrt_(max_(f, T(0)));
  const T r33 = w33 > T(0) ? T(1) / w33 : T(0);
  const T w32 = e * r33, w31 = c * r33;
  const T w22 = sqrt_(max_(d - w32 * w32, T(0)));
  const T r22 = w22 > T(0) ? T(1) / w22 : T(0);
  const T w21 = (b - w31 * w32) * r22;
  const T w11 = sqrt_(max_(a - w31 * w31 - w21 * w21, T(0)));
  return {{w11, w21, w22, w31, w32, w33}};
}

// What the backward collects per Gaussian over its voxels or points, with y = W d, t = -g_sigma:
// amp = sum e g_w (gradient of the amplitude), t y (3), and t y y^T (11, 21, 22, 31, 32, 33).
template <typename T>
struct GaussianMoments {
  T amp, ty[3], tyy[6];
};
// Their places in a row of sums.
enum MomentRow { kAmp, kTy, kTyy = kTy + 3, kMoments = kTyy + 6 };
static_assert(kMoments * sizeof(float) == sizeof(GaussianMoments<float>));

template <typename W>
MMC_HD GaussianMoments<double> read_moments(const W* row) {  // [kMoments]
  GaussianMoments<double> m;
  m.amp = row[kAmp];
  for (int k = 0; k < 3; ++k) m.ty[k] = row[kTy + k];
  for (int k = 0; k < 6; ++k) m.tyy[k] = row[kTyy + k];
  return m;
}

// Gradient of the mean, 2 W^T (sum t y).
template <typename T>
MMC_HD void mean_vjp(const GaussianMoments<T>& m, const Whitening<T>& k, T* v_mean) {
  const T* w = k.w;
  v_mean[0] = T(2) * (w[0] * m.ty[0] + w[1] * m.ty[1] + w[3] * m.ty[2]);
  v_mean[1] = T(2) * (w[2] * m.ty[1] + w[4] * m.ty[2]);
  v_mean[2] = T(2) * (w[5] * m.ty[2]);
}

// Gradient of the covariance, 2 W^T (sum t y y^T) W, a symmetric 3 x 3 matrix.
template <typename T>
MMC_HD void covariance_vjp(const GaussianMoments<T>& m, const Whitening<T>& k, T* v) {
  const T w[3][3] = {{k.w[0], 0, 0}, {k.w[1], k.w[2], 0}, {k.w[3], k.w[4], k.w[5]}};
  const T y[3][3] = {{m.tyy[0], m.tyy[1], m.tyy[3]},
                     {m.tyy[1], m.tyy[2], m.tyy[4]},
                     {m.tyy[3], m.tyy[4], m.tyy[5]}};
  T yw[3][3];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      yw[i][j] = y[i][0] * w[0][j] + y[i][1] * w[1][j] + y[i][2] * w[2][j];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      v[3 * i + j] = T(2) * (w[0][i] * yw[0][j] + w[1][i] * yw[1][j] + w[2][i] * yw[2][j]);
}

// Factors of one voxel's normalization F / max(density, eps): the scale of the features'
// gradient, and whether the density passes a gradient through the division.
template <typename T>
MMC_HD T feature_scale(T density, T eps, bool normalize) {
  return normalize ? T(1) / max_(density, eps) : T(1);
}
template <typename T>
MMC_HD bool divides_by_density(T density, T eps, bool normalize) {
  return normalize && density > eps;
}

}  // namespace mmc
