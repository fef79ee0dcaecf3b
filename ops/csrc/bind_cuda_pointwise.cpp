// Covariances, selective Adam, frustum culling and level-of-detail selection on CUDA.
#include "bind_cuda_common.h"
#include "cuda/pointwise.h"

namespace mmc {
namespace cuda_pointwise {

std::tuple<Tensor, Tensor> covar_preci_fwd(const Tensor& quats, const Tensor& scales, bool covar,
                                           bool preci) {
  constexpr const char* op = "covar_preci_fwd";
  const c10::DeviceGuard guard(quats.device());
  const Tensor q = quats.contiguous(), s = scales.contiguous();
  check_float32(op, {&q, &s});
  const auto make = [&](bool wanted) {
    return wanted ? at::empty(sizes_with(q, 1, {3, 3}), q.options()) : at::empty({0}, q.options());
  };
  const Tensor covars = make(covar), precis = make(preci);
  check_launch(launch_covar_fwd(read_or_null<float>(q), read_or_null<float>(s), s.numel() / 3,
                                write_or_null<float>(covars), write_or_null<float>(precis),
                                current_stream(q.device())),
               op);
  return {covars, precis};
}

std::tuple<Tensor, Tensor> covar_preci_bwd(const Tensor& quats, const Tensor& scales,
                                           const OptTensor& v_covars, const OptTensor& v_precis) {
  constexpr const char* op = "covar_preci_bwd";
  const c10::DeviceGuard guard(quats.device());
  const Tensor q = quats.contiguous(), s = scales.contiguous();
  const Tensor gc = contiguous_or_undefined(v_covars), gp = contiguous_or_undefined(v_precis);
  check_float32(op, {&q, &s, &gc, &gp});
  const Tensor v_quats = at::empty(q.sizes(), q.options());
  const Tensor v_scales = at::empty(s.sizes(), s.options());
  check_launch(launch_covar_bwd(read_or_null<float>(q), read_or_null<float>(s), s.numel() / 3,
                                read_or_null<float>(gc), read_or_null<float>(gp),
                                write_or_null<float>(v_quats), write_or_null<float>(v_scales),
                                current_stream(q.device())),
               op);
  return {v_quats, v_scales};
}

void selective_adam(Tensor& param, const Tensor& grad, Tensor& m, Tensor& v, const Tensor& visible,
                    double lr, double b1, double b2, double eps, int64_t step) {
  constexpr const char* op = "selective_adam_";
  const c10::DeviceGuard guard(param.device());
  TORCH_CHECK(param.is_contiguous() && m.is_contiguous() && v.is_contiguous(),
              "selective_adam: expected contiguous param, m and v");
  const Tensor g = grad.contiguous(), mask = visible.contiguous();
  check_float32(op, {&param, &g, &m, &v});
  const int64_t rows = mask.numel(), width = rows ? param.numel() / rows : 0;
  check_launch(launch_selective_adam(read_or_null<float>(g), read_or_null<bool>(mask), rows, width,
                                     lr, b1, b2, eps, step, write_or_null<float>(param),
                                     write_or_null<float>(m), write_or_null<float>(v),
                                     current_stream(param.device())),
               op);
}

Tensor frustum_cull(const Tensor& points, const OptTensor& radii, const Tensor& viewmats,
                    const Tensor& Ks, int64_t width, int64_t height, double near_plane,
                    double far_plane, double margin) {
  constexpr const char* op = "frustum_cull";
  const c10::DeviceGuard guard(points.device());
  const Tensor p = points.contiguous(), r = contiguous_or_undefined(radii);
  const Tensor v = viewmats.contiguous(), k = Ks.contiguous();
  check_float32(op, {&p, &r, &v, &k});
  const Tensor out = at::empty({v.size(0), p.size(0)}, p.options().dtype(at::kBool));
  check_launch(
      launch_frustum_cull(read_or_null<float>(p), read_or_null<float>(r), read_or_null<float>(v),
                          read_or_null<float>(k), p.size(0), v.size(0), static_cast<float>(width),
                          static_cast<float>(height), static_cast<float>(near_plane),
                          static_cast<float>(far_plane), static_cast<float>(margin),
                          write_or_null<bool>(out), current_stream(p.device())),
      op);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> select_lod(const Tensor& anchors, const Tensor& levels,
                                              const OptTensor& extra_level,
                                              const Tensor& cam_centers, double voxel_size,
                                              int64_t fork, int64_t n_levels,
                                              double standard_dist, double resolution_scale,
                                              int64_t mode) {
  constexpr const char* op = "select_lod";
  const c10::DeviceGuard guard(anchors.device());
  const Tensor a = anchors.contiguous(), l = levels.contiguous();
  const Tensor e = contiguous_or_undefined(extra_level), o = cam_centers.contiguous();
  check_float32(op, {&a, &e, &o});
  const int64_t n = a.size(0), cameras = o.size(0);
  const auto shape = mode == 3 ? std::vector<int64_t>{cameras, n} : std::vector<int64_t>{0};
  const auto bools = a.options().dtype(at::kBool);
  const Tensor mask = at::empty({cameras, n}, bools), ratio = at::empty(shape, a.options());
  const Tensor transition = at::empty(shape, bools);
  const LodSettings settings{static_cast<float>(voxel_size), static_cast<float>(standard_dist),
                             static_cast<float>(resolution_scale), static_cast<int32_t>(fork),
                             static_cast<int32_t>(n_levels), static_cast<int32_t>(mode)};
  check_launch(launch_select_lod(read_or_null<float>(a), read_or_null<int32_t>(l),
                                 read_or_null<float>(e), read_or_null<float>(o), n, cameras,
                                 settings, write_or_null<bool>(mask), write_or_null<float>(ratio),
                                 write_or_null<bool>(transition), current_stream(a.device())),
               op);
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
