// Spherical harmonics on CUDA.
#include <ATen/Context.h>

#include "bind_cuda_common.h"
#include "cuda/spherical_harmonics.h"

namespace mmc {
namespace cuda_spherical_harmonics {

// The inner two sizes of coefficients must be dense; rows may be strided (slices of one tensor).
Tensor row_strided(const Tensor& t) {
  const bool inner = t.dim() == 3 && t.stride(2) == 1 && t.stride(1) == t.size(2);
  return inner ? t : t.contiguous();
}

struct Inputs {
  Tensor means, viewmats, base, rest, masks, camera_ids, gaussian_ids;
  ShIn raw{};

  Inputs(const Call& call, int64_t degree, const Tensor& m, const Tensor& v, const Tensor& b,
         const OptTensor& r, const OptTensor& mask, const OptTensor& cam, const OptTensor& gauss,
         bool shift)
      : means(m.contiguous()),
        viewmats(v.contiguous()),
        base(row_strided(b)),
        rest(r.has_value() && r->defined() ? row_strided(*r) : Tensor()),
        masks(contiguous_or_undefined(mask)),
        camera_ids(contiguous_or_undefined(cam)),
        gaussian_ids(contiguous_or_undefined(gauss)) {
    check_float32(call, {&means, &viewmats, &base, &rest});
    const int64_t bases = (degree + 1) * (degree + 1);
    raw.means = from(means);
    raw.viewmats = from(viewmats);
    raw.base = from(base);
    raw.rest = from(rest);
    raw.masks = from(masks);
    // Not null for a packed call without rows.
    raw.camera_ids = camera_ids.defined() ? camera_ids.const_data_ptr<int64_t>() : nullptr;
    raw.gaussian_ids = gaussian_ids.defined() ? gaussian_ids.const_data_ptr<int64_t>() : nullptr;
    raw.N = means.size(-2);
    raw.C = viewmats.size(-3);
    raw.D = base.size(-1);
    raw.B = 1;
    for (int64_t d = 0; d < means.dim() - 2; ++d) raw.B *= means.size(d);
    raw.rows = gaussian_ids.defined() ? gaussian_ids.numel() : 0;
    raw.base_count = std::min(bases, base.size(-2));
    raw.rest_count = bases - raw.base_count;
    raw.base_stride = base.dim() == 3 ? base.stride(0) : base.size(-2) * raw.D;
    if (rest.defined()) raw.rest_stride = rest.dim() == 3 ? rest.stride(0) : rest.size(-2) * raw.D;
    raw.degree = static_cast<int32_t>(degree);
    raw.shift = shift;
    raw.refused = id_report(means.device());
    TORCH_CHECK(raw.rest_count == 0 || (rest.defined() && rest.size(-2) >= raw.rest_count),
                "sh: degree ", degree, " needs ", bases, " coefficients");
  }
  bool packed() const { return gaussian_ids.defined(); }
};

Tensor sh_fwd(int64_t degree, const Tensor& means, const Tensor& viewmats, const Tensor& base,
              const OptTensor& rest, const OptTensor& masks, const OptTensor& camera_ids,
              const OptTensor& gaussian_ids, bool shift) {
  const Call call("sh_fwd", means);
  const Inputs in(call, degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids,
                  shift);
  const Tensor colors =
      in.packed()
          ? at::empty({in.raw.rows, in.raw.D}, in.means.options())
          : at::empty(sizes_with(in.means, 2, {in.raw.C, in.raw.N, in.raw.D}), in.means.options());
  if (colors.numel() == 0) return colors;
  call(launch_sh_fwd(in.raw, to(colors), call));
  return colors;
}

using Grads = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Grads sh_bwd(int64_t degree, const Tensor& means, const Tensor& viewmats, const Tensor& base,
             const OptTensor& rest, const OptTensor& masks, const OptTensor& camera_ids,
             const OptTensor& gaussian_ids, bool shift, const OptTensor& colors,
             const Tensor& v_colors, bool need_means, bool need_viewmats) {
  const Call call("sh_bwd", means);
  const Inputs in(call, degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids,
                  shift);
  const Tensor v = v_colors.contiguous(), shown = contiguous_or_undefined(colors);
  check_float32(call, {&v, &shown});
  const auto options = in.means.options(), doubles = options.dtype(at::kDouble);
  const int64_t n = in.raw.B * in.raw.N, images = in.raw.B * in.raw.C, rows = in.raw.rows;
  // Several rows may show one Gaussian: atomics, or rows that are added up in order.
  Tensor repeated;
  if (in.packed())
    repeated = rows > 1 ? in.gaussian_ids.narrow(0, 1, rows - 1)
                              .le(in.gaussian_ids.narrow(0, 0, rows - 1))
                              .any()
                        : at::zeros({}, options.dtype(at::kBool));
  const bool ordered =
      in.packed() && at::globalContext().deterministicAlgorithms() &&
      read_numbers(call, repeated)[0];
  const int64_t base_row = base.size(-2) * in.raw.D;
  const int64_t rest_row = in.rest.defined() ? in.rest.size(-2) * in.raw.D : 0;
  const int64_t owners = ordered ? rows : n;
  Tensor g_base = at::zeros({owners, base_row}, options);
  Tensor g_rest = at::zeros({in.rest.defined() ? owners : 0, rest_row}, options);
  Tensor g_means = at::zeros({need_means ? owners : 0, 3}, options);
  const bool need_directions = need_viewmats && degree > 0;
  Tensor directions = at::zeros({0}, doubles);
  if (need_directions) {
    if (!in.packed())
      directions = at::zeros({sh_dense_blocks(in.raw.N), images, 3}, doubles);
    else
      directions = at::zeros({ordered ? rows : images, 3}, doubles);
  }
  const ShGrads grads{from(shown), from(v), degree > 0 ? write_or_null<float>(g_means) : nullptr,
                      to(g_base), to(g_rest), base_row, rest_row, to(directions), in.packed() ?
                      read_or_null<bool>(repeated) : nullptr};
  if (in.packed()) {
    call(launch_sh_packed_bwd(in.raw, grads, ordered ? ShRows::kPerRow : ShRows::kStore, call));
  } else {
    call(launch_sh_dense_bwd(in.raw, grads, call));
    if (need_directions) directions = directions.sum(0);
  }
  if (ordered) {
    const auto fold = [&](const Tensor& t, const Tensor& ids, int64_t size) {
      return at::zeros({size, t.size(1)}, t.options()).index_add(0, ids, t);
    };
    g_base = fold(g_base, in.gaussian_ids, n);
    if (in.rest.defined()) g_rest = fold(g_rest, in.gaussian_ids, n);
    if (need_means) g_means = fold(g_means, in.gaussian_ids, n);
    if (need_directions) directions = fold(directions, in.camera_ids, images);
  }
  Tensor g_view = at::empty({0}, options);
  if (need_viewmats) {
    g_view = at::zeros(in.viewmats.sizes(), options);
    if (need_directions) {  // the camera centre o = -R^T t gets minus the direction's gradient
      const Tensor flat = in.viewmats.view({-1, 4, 4}).to(at::kDouble);
      const Tensor rotation = flat.narrow(1, 0, 3).narrow(2, 0, 3);
      const Tensor shift_t = flat.narrow(1, 0, 3).select(2, 3);
      const Tensor g_center = directions.neg();
      const Tensor out = g_view.view({-1, 4, 4});
      out.narrow(1, 0, 3).narrow(2, 0, 3).copy_(
          shift_t.unsqueeze(2).mul(g_center.unsqueeze(1)).neg());
      out.narrow(1, 0, 3).select(2, 3).copy_(rotation.mul(g_center.unsqueeze(1)).sum(2).neg());
    }
  }
  return {need_means ? g_means.view(in.means.sizes()) : at::empty({0}, options), g_view,
          g_base.view(base.sizes()),
          in.rest.defined() ? g_rest.view(in.rest.sizes()) : at::empty({0}, options)};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("sh_fwd", &sh_fwd);
  m.impl("sh_bwd", &sh_bwd);
}

}  // namespace cuda_spherical_harmonics
}  // namespace mmc
