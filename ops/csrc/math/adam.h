// One Adam update with bias correction.
#pragma once
#include "math/hd.h"

namespace mmc {

template <typename T>
struct AdamParams {
  T b1, b2, step_size, inv_sqrt_c2, eps;  // step_size = lr / (1 - b1^t), c2 = 1 - b2^t
};

template <typename T>
MMC_HD void adam_step(const AdamParams<T>& a, T g, T& param, T& m, T& v) {
  m = a.b1 * m + (T(1) - a.b1) * g;
  v = a.b2 * v + (T(1) - a.b2) * g * g;
  param -= a.step_size * m / (sqrt_(v) * a.inv_sqrt_c2 + a.eps);
}

}  // namespace mmc
