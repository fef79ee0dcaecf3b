// Projection on CUDA.
#include <ATen/Context.h>

#include "bind_cuda_common.h"
#include "cuda/projection.h"

namespace mmc {
namespace cuda_projection {

struct Inputs {  // contiguous inputs, and the pointers the launchers take
  Tensor means, covars, quats, scales, viewmats, Ks, opacities;
  ProjectionIn raw{};

  Inputs(const Call& call, const Tensor& m, const OptTensor& cov, const OptTensor& q,
         const OptTensor& s, const Tensor& v, const Tensor& k, const OptTensor& o, int64_t width,
         int64_t height, double eps2d, int64_t model)
      : means(m.contiguous()),
        covars(contiguous_or_undefined(cov)),
        quats(contiguous_or_undefined(q)),
        scales(contiguous_or_undefined(s)),
        viewmats(v.contiguous()),
        Ks(k.contiguous()),
        opacities(contiguous_or_undefined(o)) {
    check_float32(call, {&means, &covars, &quats, &scales, &viewmats, &Ks, &opacities});
    TORCH_CHECK(covars.defined() || (quats.defined() && scales.defined()),
                "project: expected covars, or quats and scales");
    raw.means = from(means);
    raw.covars = from(covars);
    raw.quats = from(quats);
    raw.scales = from(scales);
    raw.opacities = from(opacities);
    raw.viewmats = from(viewmats);
    raw.Ks = from(Ks);
    raw.N = means.size(-2);
    raw.C = viewmats.size(-3);
    raw.B = 1;
    for (int64_t d = 0; d < means.dim() - 2; ++d) raw.B *= means.size(d);
    raw.width = static_cast<float>(width);
    raw.height = static_cast<float>(height);
    raw.eps2d = static_cast<float>(eps2d);
    raw.model = static_cast<int32_t>(model);
  }

  void set_limits(double near_plane, double far_plane, double radius_clip, bool compensate) {
    raw.near_plane = static_cast<float>(near_plane);
    raw.far_plane = static_cast<float>(far_plane);
    raw.radius_clip = static_cast<float>(radius_clip);
    raw.compensate = compensate;
  }
  std::vector<int64_t> rows(std::initializer_list<int64_t> tail) const {
    std::vector<int64_t> out = sizes_with(means, 2, {raw.C, raw.N});
    out.insert(out.end(), tail.begin(), tail.end());
    return out;
  }
};

using Dense = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Packed = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

ProjectionRows rows_of(const Tensor& radii, const Tensor& means2d, const Tensor& depths,
                       const Tensor& conics, const Tensor& comps) {
  return {to(radii), to(means2d), to(depths), to(conics), to(comps)};
}

Dense project_fwd(const Tensor& means, const OptTensor& covars, const OptTensor& quats,
                  const OptTensor& scales, const Tensor& viewmats, const Tensor& Ks,
                  const OptTensor& opacities, int64_t width, int64_t height, double eps2d,
                  double near_plane, double far_plane, double radius_clip, bool calc_compensations,
                  int64_t model) {
  const Call call("project_fwd", means);
  Inputs in(call, means, covars, quats, scales, viewmats, Ks, opacities, width, height, eps2d,
            model);
  in.set_limits(near_plane, far_plane, radius_clip, calc_compensations);
  const auto options = in.means.options();
  const Tensor radii = at::empty(in.rows({2}), options.dtype(at::kInt));
  const Tensor means2d = at::empty(in.rows({2}), options), depths = at::empty(in.rows({}), options);
  const Tensor conics = at::empty(in.rows({3}), options);
  const Tensor comps =
      calc_compensations ? at::empty(in.rows({}), options) : at::empty({0}, options);
  call(launch_project_dense(in.raw, rows_of(radii, means2d, depths, conics, comps), call));
  return {radii, means2d, depths, conics, comps};
}

Packed project_packed_fwd(const Tensor& means, const OptTensor& covars, const OptTensor& quats,
                          const OptTensor& scales, const Tensor& viewmats, const Tensor& Ks,
                          const OptTensor& opacities, int64_t width, int64_t height, double eps2d,
                          double near_plane, double far_plane, double radius_clip,
                          bool calc_compensations, int64_t model) {
  const Call call("project_packed_fwd", means);
  Inputs in(call, means, covars, quats, scales, viewmats, Ks, opacities, width, height, eps2d,
            model);
  in.set_limits(near_plane, far_plane, radius_clip, calc_compensations);
  const auto options = in.means.options(), longs = options.dtype(at::kLong);
  const int64_t images = in.raw.B * in.raw.C, all = images * in.raw.N;
  const Tensor visible = at::zeros({all + 1}, options.dtype(at::kInt));
  call(launch_project_visible(in.raw, to(visible), call));
  const Tensor positions = scan_counts(call, visible);
  const int64_t nnz = read_numbers(call, positions.narrow(0, all, 1))[0];
  // Rows of an image start where its first Gaussian would stand.
  const Tensor starts = at::arange(images + 1, longs) * in.raw.N;
  const Tensor indptr = positions.index_select(0, starts);
  const Tensor batch = at::empty({nnz}, longs), camera = at::empty({nnz}, longs);
  const Tensor gaussian = at::empty({nnz}, longs);
  const Tensor radii = at::empty({nnz, 2}, options.dtype(at::kInt));
  const Tensor means2d = at::empty({nnz, 2}, options), depths = at::empty({nnz}, options);
  const Tensor conics = at::empty({nnz, 3}, options);
  const Tensor comps = at::empty({calc_compensations ? nnz : 0}, options);
  if (nnz > 0) {
    const PackedIds ids{to(batch), to(camera), to(gaussian)};
    call(launch_project_packed(in.raw, from(visible), from(positions), ids,
                               rows_of(radii, means2d, depths, conics, comps), call));
  }
  return {batch, camera, gaussian, indptr, radii, means2d, depths, conics, comps};
}

// Pose sums [images, 12] to the layout of viewmats.
Tensor to_viewmats(const Tensor& pose, const Tensor& viewmats) {
  const Tensor out = at::zeros(viewmats.sizes(), viewmats.options());
  const Tensor flat = out.view({-1, 4, 4});
  flat.narrow(1, 0, 3).narrow(2, 0, 3).copy_(pose.narrow(1, kRotation, 9).reshape({-1, 3, 3}));
  flat.narrow(1, 0, 3).select(2, 3).copy_(pose.narrow(1, kShift, 3));
  return out;
}

Dense project_bwd(const Tensor& means, const OptTensor& covars, const OptTensor& quats,
                  const OptTensor& scales, const Tensor& viewmats, const Tensor& Ks,
                  const Tensor& radii, const OptTensor& gaussian_ids, const OptTensor& indptr,
                  int64_t width, int64_t height, double eps2d, int64_t model,
                  const OptTensor& v_means2d, const OptTensor& v_depths, const OptTensor& v_conics,
                  const OptTensor& v_compensations, bool need_viewmats, bool per_row) {
  const Call call("project_bwd", means);
  const Inputs in(call, means, covars, quats, scales, viewmats, Ks, std::nullopt, width, height,
                  eps2d, model);
  const Tensor shown = radii.contiguous(), ids = contiguous_or_undefined(gaussian_ids);
  const Tensor pointers = contiguous_or_undefined(indptr);
  const Tensor gm = contiguous_or_undefined(v_means2d), gd = contiguous_or_undefined(v_depths);
  const Tensor gc = contiguous_or_undefined(v_conics);
  const Tensor gr = contiguous_or_undefined(v_compensations);
  check_float32(call, {&gm, &gd, &gc, &gr});
  const ProjectionGrads grads{from(gm), from(gd), from(gc), from(gr)};
  const auto options = in.means.options(), doubles = options.dtype(at::kDouble);
  const bool has_covar = in.covars.defined(), packed = ids.defined();
  const int64_t images = in.raw.B * in.raw.C, nnz = packed ? ids.numel() : 0;
  // Several cameras may show one Gaussian: atomics, or rows that are added up in order.
  const bool ordered =
      packed && !per_row && in.raw.C > 1 && at::globalContext().deterministicAlgorithms();
  const bool rowwise = per_row || ordered;
  const auto make = [&](bool wanted, std::initializer_list<int64_t> tail) {
    if (!wanted) return at::empty({0}, options);
    std::vector<int64_t> shape = rowwise ? std::vector<int64_t>{nnz} : sizes_with(in.means, 1, {});
    shape.insert(shape.end(), tail.begin(), tail.end());
    return at::zeros(shape, options);
  };
  Tensor o_means = make(true, {3}), o_covars = make(has_covar, {3, 3});
  Tensor o_quats = make(!has_covar, {4}), o_scales = make(!has_covar, {3});
  Tensor pose;
  if (need_viewmats) {
    if (!packed)
      pose = at::zeros({project_dense_blocks(in.raw.N), images, kPose}, doubles);
    else
      pose = at::zeros({rowwise ? nnz : images, kPose}, doubles);
  }
  const ProjectionGradOut out{to(o_means), to(o_covars), to(o_quats), to(o_scales), to(pose)};
  if (!packed) {
    call(launch_project_dense_bwd(in.raw, from(shown), grads, out, call));
    if (need_viewmats) pose = pose.sum(0);
  } else {
    const RowSums sums =
        rowwise ? RowSums::kPerRow : (in.raw.C > 1 ? RowSums::kAtomic : RowSums::kStore);
    call(launch_project_packed_bwd(in.raw, from(ids), from(pointers), nnz, sums, grads, out, call));
    if (rowwise && (need_viewmats || ordered)) {
      const Tensor rows = at::arange(nnz, ids.options());
      const Tensor image = at::searchsorted(pointers.narrow(0, 1, images), rows, false, true);
      if (need_viewmats) pose = at::zeros({images, kPose}, doubles).index_add(0, image, pose);
      if (ordered) {
        const Tensor target = at::div(image, in.raw.C, "floor") * in.raw.N + ids;
        const auto fold = [&](const Tensor& t, std::initializer_list<int64_t> tail) {
          if (t.numel() == 0 && t.dim() == 1) return t;
          const Tensor flat = t.reshape({nnz, t.numel() / std::max<int64_t>(nnz, 1)});
          return at::zeros({in.raw.B * in.raw.N, flat.size(1)}, options)
              .index_add(0, target, flat)
              .reshape(sizes_with(in.means, 1, tail));
        };
        if (nnz == 0) {  // nothing visible: zeros of all Gaussians
          o_means = at::zeros(in.means.sizes(), options);
          if (has_covar) o_covars = at::zeros(sizes_with(in.means, 1, {3, 3}), options);
          if (!has_covar) o_quats = at::zeros(sizes_with(in.means, 1, {4}), options);
          if (!has_covar) o_scales = at::zeros(sizes_with(in.means, 1, {3}), options);
        } else {
          o_means = fold(o_means, {3});
          o_covars = fold(o_covars, {3, 3});
          o_quats = fold(o_quats, {4});
          o_scales = fold(o_scales, {3});
        }
      }
    }
  }
  const Tensor o_view = need_viewmats ? to_viewmats(pose, in.viewmats) : at::empty({0}, options);
  return {o_means, o_covars, o_quats, o_scales, o_view};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("project_fwd", &project_fwd);
  m.impl("project_packed_fwd", &project_packed_fwd);
  m.impl("project_bwd", &project_bwd);
}

}  // namespace cuda_projection
}  // namespace mmc
