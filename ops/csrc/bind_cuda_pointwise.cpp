// Covariances, selective Adam, frustum culling and level-of-detail selection on CUDA.
#include "bind_cuda_common.h"
#include "cuda/pointwise.h"

namespace mmc {
namespace cuda_pointwise {

std::tuple<Tensor, Tensor> covar_preci_fwd(const Tensor& quats, const Tensor& scales, bool covar,
                                           bool preci) {
  const Call call("covar_preci_fwd", quats);
  const Tensor q = quats.contiguous(), s = scales.contiguous();
  check_float32(call, {&q, &s});
  const auto make = [&](bool wanted) {
    return wanted ? at::empty(sizes_with(q, 1, {3, 3}), q.options()) : at::empty({0}, q.options());
  };
  const Tensor covars = make(covar), precis = make(preci);
  call(launch_covar_fwd(from(q), from(s), s.numel() / 3, to(covars), to(precis), call));
  return {covars, precis};
}

std::tuple<Tensor, Tensor> covar_preci_bwd(const Tensor& quats, const Tensor& scales,
                                           const OptTensor& v_covars, const OptTensor& v_precis) {
  const Call call("covar_preci_bwd", quats);
  const Tensor q = quats.contiguous(), s = scales.contiguous();
  const Tensor gc = contiguous_or_undefined(v_covars), gp = contiguous_or_undefined(v_precis);
  check_float32(call, {&q, &s, &gc, &gp});
  const Tensor v_quats = at::empty(q.sizes(), q.options());
  const Tensor v_scales = at::empty(s.sizes(), s.options());
  call(launch_covar_bwd(from(q), from(s), s.numel() / 3, from(gc), from(gp), to(v_quats),
                        to(v_scales), call));
  return {v_quats, v_scales};
}

void selective_adam(Tensor& param, const Tensor& grad, Tensor& m, Tensor& v, const Tensor& visible,
                    double lr, double b1, double b2, double eps, int64_t step) {
  const Call call("selective_adam_", param);
  TORCH_CHECK(param.is_contiguous() && m.is_contiguous() && v.is_contiguous(),
              "selective_adam: expected contiguous param, m and v");
  const Tensor g = grad.contiguous(), mask = visible.contiguous();
  check_float32(call, {&param, &g, &m, &v});
  const int64_t rows = mask.numel(), width = rows ? param.numel() / rows : 0;
  call(launch_selective_adam(from(g), from(mask), rows, width, lr, b1, b2, eps, step, to(param),
                             to(m), to(v), call));
}

Tensor frustum_cull(const Tensor& points, const OptTensor& radii, const Tensor& viewmats,
                    const Tensor& Ks, int64_t width, int64_t height, double near_plane,
                    double far_plane, double margin) {
  const Call call("frustum_cull", points);
  const Tensor p = points.contiguous(), r = contiguous_or_undefined(radii);
  const Tensor v = viewmats.contiguous(), k = Ks.contiguous();
  check_float32(call, {&p, &r, &v, &k});
  const Tensor out = at::empty({v.size(0), p.size(0)}, p.options().dtype(at::kBool));
  call(launch_frustum_cull(from(p), from(r), from(v), from(k), p.size(0), v.size(0),
                           static_cast<float>(width), static_cast<float>(height),
                           static_cast<float>(near_plane), static_cast<float>(far_plane),
                           static_cast<float>(margin), to(out), call));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> select_lod(const Tensor& anchors, const Tensor& levels,
                                              const OptTensor& extra_level,
                                              const Tensor& cam_centers, double voxel_size,
                                              int64_t fork, int64_t n_levels, double standard_dist,
                                              double resolution_scale, int64_t mode) {
  const Call call("select_lod", anchors);
  const Tensor a = anchors.contiguous(), l = levels.contiguous();
  const Tensor e = contiguous_or_undefined(extra_level), o = cam_centers.contiguous();
  check_float32(call, {&a, &e, &o});
  const int64_t n = a.size(0), cameras = o.size(0);
  const auto shape = mode == 3 ? std::vector<int64_t>{cameras, n} : std::vector<int64_t>{0};
  const auto bools = a.options().dtype(at::kBool);
  const Tensor mask = at::empty({cameras, n}, bools), ratio = at::empty(shape, a.options());
  const Tensor transition = at::empty(shape, bools);
  const LodSettings settings{static_cast<float>(voxel_size), static_cast<float>(standard_dist),
                             static_cast<float>(resolution_scale), static_cast<int32_t>(fork),
                             static_cast<int32_t>(n_levels), static_cast<int32_t>(mode)};
  call(launch_select_lod(from(a), from(l), from(e), from(o), n, cameras, settings, to(mask),
                         to(ratio), to(transition), call));
  return {mask, ratio, transition};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("covar_preci_fwd", &covar_preci_fwd);
  m.impl("covar_preci_bwd", &covar_preci_bwd);
  m.impl("selective_adam_", &selective_adam);
  m.impl("frustum_cull", &frustum_cull);
  m.impl("select_lod", &select_lod);
}

}  // namespace cuda_pointwise
}  // namespace mmc
