// Covariances and precisions, and Adam on visible rows: one pass over the Gaussians.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "math/adam.h"
#include "math/covar.h"

namespace mmc {
namespace covariance_cpu {  // several files may be compiled as one
namespace {

using OptTensor = std::optional<at::Tensor>;
constexpr int64_t kGrain = 4096;


std::tuple<at::Tensor, at::Tensor> covar_preci_fwd_cpu(const at::Tensor& quats,
                                                       const at::Tensor& scales, bool covar,
                                                       bool preci) {
  const at::Tensor q = quats.contiguous(), s = scales.contiguous();
  const auto lead = lead_sizes(q, 1);
  const auto make = [&](bool wanted) {
    return wanted ? at::empty(join(lead, {3, 3}), q.options()) : at::empty({0}, q.options());
  };
  const at::Tensor covars = make(covar), precis = make(preci);
  AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), "covar_preci_fwd", [&] {
    using T = scalar_t;
    const T *qp = q.const_data_ptr<T>(), *sp = s.const_data_ptr<T>();  // [N, 4], [N, 3]
    T *cp = mutable_or_null<T>(covars), *pp = mutable_or_null<T>(precis);
    parallel_ranges(product(lead), kGrain, 1, [&](int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        const Quat<T> u = load_quat(qp + 4 * n);
        const Vec3<T> v = load_vec(sp + 3 * n);
        if (cp) store_matrix(covar_fwd(u, v), cp + 9 * n);
        if (pp) store_matrix(preci_fwd(u, v), pp + 9 * n);
      }
    });
  });
  return {covars, precis};
}

std::tuple<at::Tensor, at::Tensor> covar_preci_bwd_cpu(const at::Tensor& quats,
                                                       const at::Tensor& scales,
                                                       const OptTensor& v_covars,
                                                       const OptTensor& v_precis) {
  const at::Tensor q = quats.contiguous(), s = scales.contiguous();
  const at::Tensor gc = dense_of(v_covars), gp = dense_of(v_precis);
  const at::Tensor g_quats = at::empty(q.sizes(), q.options());
  const at::Tensor g_scales = at::empty(s.sizes(), s.options());
  AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), "covar_preci_bwd", [&] {
    using T = scalar_t;
    const T *qp = q.const_data_ptr<T>(), *sp = s.const_data_ptr<T>();    // [N, 4], [N, 3]
    const T *cp = data_or_null<T>(gc), *pp = data_or_null<T>(gp);        // [N, 3, 3] or null
    T *oq = g_quats.data_ptr<T>(), *os = g_scales.data_ptr<T>();
    parallel_ranges(s.numel() / 3, kGrain, 1, [&](int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        const Quat<T> u = load_quat(qp + 4 * n);
        const Vec3<T> v = load_vec(sp + 3 * n);
        T *gq = oq + 4 * n, *gs = os + 3 * n;
        std::fill_n(gq, 4, T(0));
        std::fill_n(gs, 3, T(0));
        const auto add = [&](const RotScaleGrad<T>& g) {
          const T quat[] = {g.quat.w, g.quat.x, g.quat.y, g.quat.z};
          const T scale[] = {g.scale.x, g.scale.y, g.scale.z};
          for (int k = 0; k < 4; ++k) gq[k] += quat[k];
          for (int k = 0; k < 3; ++k) gs[k] += scale[k];
        };
        if (cp) add(covar_vjp(u, v, load_matrix(cp + 9 * n)));
        if (pp) add(preci_vjp(u, v, load_matrix(pp + 9 * n)));
      }
    });
  });
  return {g_quats, g_scales};
}

template <typename T>
void adam_row(const AdamParams<T>& a, int64_t width, const T* g, T* param, T* m, T* v) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) adam_step(a, g[i], param[i], m[i], v[i]);
}

void selective_adam_cpu(at::Tensor& param, const at::Tensor& grad, at::Tensor& m, at::Tensor& v,
                        const at::Tensor& visible, double lr, double b1, double b2, double eps,
                        int64_t step) {
  TORCH_CHECK(param.is_contiguous() && m.is_contiguous() && v.is_contiguous(),
              "selective_adam: expected contiguous param, m and v");
  const at::Tensor g = grad.contiguous(), mask = visible.contiguous();
  const int64_t rows = mask.numel(), width = rows ? param.numel() / rows : 0;
  AT_DISPATCH_FLOATING_TYPES(param.scalar_type(), "selective_adam", [&] {
    using T = scalar_t;
    const AdamParams<T> a{T(b1), T(b2), T(lr / (1 - std::pow(b1, double(step)))),
                          T(1 / std::sqrt(1 - std::pow(b2, double(step)))), T(eps)};
    T *pp = param.data_ptr<T>(), *mp = m.data_ptr<T>(), *vp = v.data_ptr<T>();
    const T* gp = g.const_data_ptr<T>();
    const bool* on = mask.const_data_ptr<bool>();
    parallel_ranges(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)), 1,
                    [&](int64_t first, int64_t last) {
                      for (int64_t n = first; n < last; ++n) {
                        if (!on[n]) continue;
                        const int64_t i = n * width;
                        adam_row(a, width, gp + i, pp + i, mp + i, vp + i);
                      }
                    });
  });
}

}  // namespace
}  // namespace covariance_cpu

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("covar_preci_fwd", &covariance_cpu::covar_preci_fwd_cpu);
  m.impl("covar_preci_bwd", &covariance_cpu::covar_preci_bwd_cpu);
  m.impl("selective_adam_", &covariance_cpu::selective_adam_cpu);
}

}  // namespace mmc
