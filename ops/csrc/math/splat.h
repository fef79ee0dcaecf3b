// Semantic splatting: the mixture of Gaussians that act on one point.
#pragma once
#include "math/hd.h"
#include "math/voxel.h"

namespace mmc {

// Cell of a point; false outside the grid and for NaN.
template <typename T>
MMC_HD bool splat_cell(const T* p, const VoxelGrid<T>& g, int32_t* cell) {
  for (int d = 0; d < 3; ++d) {
    if (!(p[d] >= g.lo[d] && (p[d] - g.lo[d]) / g.size[d] < T(g.dims[d]))) return false;
    cell[d] = cell_of(p[d], g.lo[d], g.size[d]);
    if (cell[d] >= g.dims[d]) return false;
  }
  return true;
}

// Probability that a Gaussian leaves the point empty, kept away from 0.
template <typename T>
MMC_HD T miss_probability(T e) {
  return T(1) - min_(e, T(1) - T(1e-7));
}

// Factor of the weighted sum of semantics; 0 where the mixture has no mass (uniform answer).
template <typename T>
MMC_HD T mixture_scale(T mass) {
  return mass > T(1e-9) ? T(1) / mass : T(0);
}

// Gradient of the precision, -1/2 sum t d d^T with d = W^-1 y, a symmetric 3 x 3 matrix.
template <typename T>
MMC_HD void precision_vjp(const GaussianMoments<T>& m, const Whitening<T>& k, T* v) {
  const T* w = k.w;
  const T i1 = w[0] > T(0) ? T(1) / w[0] : T(0);
  const T i2 = w[2] > T(0) ? T(1) / w[2] : T(0);
  const T i3 = w[5] > T(0) ? T(1) / w[5] : T(0);
  const T c21 = -w[1] * i1 * i2;
  const T inv[3][3] = {{i1, 0, 0},
                       {c21, i2, 0},
                       {-(w[3] * i1 + w[4] * c21) * i3, -w[4] * i2 * i3, i3}};
  const T y[3][3] = {{m.tyy[0], m.tyy[1], m.tyy[3]},
                     {m.tyy[1], m.tyy[2], m.tyy[4]},
                     {m.tyy[3], m.tyy[4], m.tyy[5]}};
  T left[3][3];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      left[i][j] = inv[i][0] * y[0][j] + inv[i][1] * y[1][j] + inv[i][2] * y[2][j];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      v[3 * i + j] = T(-0.5) * (left[i][0] * inv[j][0] + left[i][1] * inv[j][1] +
                                left[i][2] * inv[j][2]);
}

}  // namespace mmc
