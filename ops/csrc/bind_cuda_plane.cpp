// Planes of flat Gaussians and depth from blended planes on CUDA. Gradients are written per row
// and added by torch, which is deterministic when torch is asked to be.
#include "bind_cuda_common.h"
#include "cuda/plane.h"

namespace mmc {
namespace cuda_plane {

struct Inputs {
  Tensor means, quats, scales, viewmats, camera_ids, gaussian_ids;
  PlaneRows raw{};

  Inputs(const Call& call, const Tensor& m, const Tensor& q, const Tensor& s, const Tensor& v,
         const OptTensor& cam, const OptTensor& gauss)
      : means(m.contiguous()),
        quats(q.contiguous()),
        scales(s.contiguous()),
        viewmats(v.contiguous()),
        camera_ids(contiguous_or_undefined(cam)),
        gaussian_ids(contiguous_or_undefined(gauss)) {
    check_float32(call, {&means, &quats, &scales, &viewmats});
    raw.means = from(means);
    raw.quats = from(quats);
    raw.scales = from(scales);
    raw.viewmats = from(viewmats);
    raw.N = means.size(-2);
    raw.C = viewmats.size(-3);
    raw.refused = id_report(means.device());
    if (packed()) {
      raw.camera_ids = from(camera_ids);
      raw.gaussian_ids = from(gaussian_ids);
      raw.rows = gaussian_ids.numel();
    } else {
      raw.rows = means.size(0) * raw.C * raw.N;
    }
  }
  bool packed() const { return gaussian_ids.defined(); }
};

Tensor features_fwd(const Tensor& means, const Tensor& quats, const Tensor& scales,
                    const Tensor& viewmats, const OptTensor& camera_ids,
                    const OptTensor& gaussian_ids) {
  const Call call("plane_features_fwd", means);
  const Inputs in(call, means, quats, scales, viewmats, camera_ids, gaussian_ids);
  const Tensor out = in.packed()
                         ? at::empty({in.raw.rows, 4}, in.means.options())
                         : at::empty({in.means.size(0), in.raw.C, in.raw.N, 4}, in.means.options());
  call(launch_plane_features_fwd(in.raw, to(out), call));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> features_bwd(const Tensor& v_features, const Tensor& means,
                                                const Tensor& quats, const Tensor& scales,
                                                const Tensor& viewmats, const OptTensor& camera_ids,
                                                const OptTensor& gaussian_ids, bool poses) {
  const Call call("plane_features_bwd", means);
  const Inputs in(call, means, quats, scales, viewmats, camera_ids, gaussian_ids);
  const Tensor v = v_features.contiguous();
  check_float32(call, {&v});
  const auto options = in.means.options();
  const Tensor rows = at::empty({in.raw.rows, kPlaneGrads}, options);
  const Tensor row_poses = at::empty({poses ? in.raw.rows : 0, kPlanePose}, options);
  call(launch_plane_features_bwd(in.raw, from(v), to(rows), to(row_poses), call));
  const int64_t gaussians = in.means.numel() / 3, cameras = in.viewmats.numel() / 16;
  const auto add_up = [&](const Tensor& t, const Tensor& ids, int64_t count, int64_t dim) {
    if (in.packed())  // rows of refused ids are 0
      return at::zeros({count, t.size(1)}, options).index_add(0, ids.clamp(0, count - 1), t);
    return t.view({in.means.size(0), in.raw.C, in.raw.N, t.size(1)})
        .sum(dim)
        .reshape({count, t.size(1)});
  };
  const Tensor total = add_up(rows, in.gaussian_ids, gaussians, 1);
  Tensor v_view = at::empty({0}, options);
  if (poses) {
    v_view = at::zeros_like(in.viewmats);
    v_view.view({cameras, 16})
        .slice(1, 0, kPlanePose)
        .copy_(add_up(row_poses, in.camera_ids, cameras, 2));
  }
  return {total.slice(1, 0, 3).reshape(in.means.sizes()).contiguous(),
          total.slice(1, 3, kPlaneGrads).reshape(in.quats.sizes()).contiguous(), v_view};
}

PlaneImages images_of(const Tensor& normals, const Tensor& distances, const Tensor& Ks) {
  return {from(normals),   from(distances), from(Ks),
          normals.size(0), normals.size(1), normals.size(2)};
}

std::tuple<Tensor, Tensor> depth_fwd(const Tensor& normals, const Tensor& distances,
                                     const Tensor& alphas, const Tensor& Ks, double min_alpha,
                                     double min_cosine) {
  const Call call("plane_depth_fwd", normals);
  const Tensor n = normals.contiguous(), d = distances.contiguous(), a = alphas.contiguous();
  const Tensor k = Ks.contiguous();
  check_float32(call, {&n, &d, &a, &k});
  const Tensor depth = at::empty_like(d),
               valid = at::empty(d.sizes(), d.options().dtype(at::kBool));
  call(launch_plane_depth_fwd(images_of(n, d, k), from(a), static_cast<float>(min_alpha),
                              static_cast<float>(min_cosine), to(depth), to(valid), call));
  return {depth, valid};
}

std::tuple<Tensor, Tensor> depth_bwd(const Tensor& v_depth, const Tensor& normals,
                                     const Tensor& distances, const Tensor& valid,
                                     const Tensor& Ks) {
  const Call call("plane_depth_bwd", normals);
  const Tensor n = normals.contiguous(), d = distances.contiguous(), ok = valid.contiguous();
  const Tensor k = Ks.contiguous(), g = v_depth.contiguous();
  check_float32(call, {&n, &d, &k, &g});
  const Tensor v_normals = at::empty_like(n), v_distances = at::empty_like(d);
  call(launch_plane_depth_bwd(images_of(n, d, k), from(g), from(ok), to(v_normals), to(v_distances),
                              call));
  return {v_normals, v_distances};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("plane_features_fwd", &features_fwd);
  m.impl("plane_features_bwd", &features_bwd);
  m.impl("plane_depth_fwd", &depth_fwd);
  m.impl("plane_depth_bwd", &depth_bwd);
}

}  // namespace cuda_plane
}  // namespace mmc
