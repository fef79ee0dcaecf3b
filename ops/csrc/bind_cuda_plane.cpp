// Planes of flat Gaussians and depth from blended planes on CUDA. Gradients are written per row
// and added by torch, which is deterministic when torch is asked to be.
#include "bind_cuda_common.h"
#include "cuda/plane.h"

namespace mmc {
namespace cuda_plane {

struct Inputs {
  Tensor means, quats, scales, viewmats, camera_ids, gaussian_ids;
  PlaneRows raw{};

  Inputs(const char* op, const Tensor& m, const Tensor& q, const Tensor& s, const Tensor& v,
         const OptTensor& cam, const OptTensor& gauss)
      : means(m.contiguous()),
        quats(q.contiguous()),
        scales(s.contiguous()),
        viewmats(v.contiguous()),
        camera_ids(contiguous_or_undefined(cam)),
        gaussian_ids(contiguous_or_undefined(gauss)) {
    check_float32(op, {&means, &quats, &scales, &viewmats});
    raw.means = read_or_null<float>(means);
    raw.quats = read_or_null<float>(quats);
    raw.scales = read_or_null<float>(scales);
    raw.viewmats = read_or_null<float>(viewmats);
    raw.N = means.size(-2);
    raw.C = viewmats.size(-3);
    if (packed()) {
      raw.camera_ids = read_or_null<int64_t>(camera_ids);
      raw.gaussian_ids = read_or_null<int64_t>(gaussian_ids);
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
  constexpr const char* op = "plane_features_fwd";
  const c10::DeviceGuard guard(means.device());
  const Inputs in(op, means, quats, scales, viewmats, camera_ids, gaussian_ids);
  const Tensor out = in.packed()
                         ? at::empty({in.raw.rows, 4}, in.means.options())
                         : at::empty({in.means.size(0), in.raw.C, in.raw.N, 4}, in.means.options());
  check_launch(launch_plane_features_fwd(in.raw, write_or_null<float>(out),
                                         current_stream(means.device())),
               op);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> features_bwd(const Tensor& v_features, const Tensor& means,
                                                const Tensor& quats, const Tensor& scales,
                                                const Tensor& viewmats,
                                                const OptTensor& camera_ids,
                                                const OptTensor& gaussian_ids, bool poses) {
  constexpr const char* op = "plane_features_bwd";
  const c10::DeviceGuard guard(means.device());
  const Inputs in(op, means, quats, scales, viewmats, camera_ids, gaussian_ids);
  const Tensor v = v_features.contiguous();
  check_float32(op, {&v});
  const auto options = in.means.options();
  const Tensor rows = at::empty({in.raw.rows, kPlaneGrads}, options);
  const Tensor row_poses = at::empty({poses ? in.raw.rows : 0, kPlanePose}, options);
  check_launch(launch_plane_features_bwd(in.raw, read_or_null<float>(v),
                                         write_or_null<float>(rows),
                                         write_or_null<float>(row_poses),
                                         current_stream(means.device())),
               op);
  const int64_t gaussians = in.means.numel() / 3, cameras = in.viewmats.numel() / 16;
  const auto add_up = [&](const Tensor& t, const Tensor& ids, int64_t count, int64_t dim) {
    if (in.packed()) return at::zeros({count, t.size(1)}, options).index_add(0, ids, t);
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
  return {read_or_null<float>(normals), read_or_null<float>(distances), read_or_null<float>(Ks),
          normals.size(0), normals.size(1), normals.size(2)};
}

std::tuple<Tensor, Tensor> depth_fwd(const Tensor& normals, const Tensor& distances,
                                     const Tensor& alphas, const Tensor& Ks, double min_alpha,
                                     double min_cosine) {
  constexpr const char* op = "plane_depth_fwd";
  const c10::DeviceGuard guard(normals.device());
  const Tensor n = normals.contiguous(), d = distances.contiguous(), a = alphas.contiguous();
  const Tensor k = Ks.contiguous();
  check_float32(op, {&n, &d, &a, &k});
  const Tensor depth = at::empty_like(d), valid = at::empty(d.sizes(), d.options().dtype(at::kBool));
  check_launch(
      launch_plane_depth_fwd(images_of(n, d, k), read_or_null<float>(a),
                             static_cast<float>(min_alpha), static_cast<float>(min_cosine),
                             write_or_null<float>(depth), write_or_null<bool>(valid),
                             current_stream(normals.device())),
      op);
  return {depth, valid};
}

std::tuple<Tensor, Tensor> depth_bwd(const Tensor& v_depth, const Tensor& normals,
                                     const Tensor& distances, const Tensor& valid,
                                     const Tensor& Ks) {
  constexpr const char* op = "plane_depth_bwd";
  const c10::DeviceGuard guard(normals.device());
  const Tensor n = normals.contiguous(), d = distances.contiguous(), ok = valid.contiguous();
  const Tensor k = Ks.contiguous(), g = v_depth.contiguous();
  check_float32(op, {&n, &d, &k, &g});
  const Tensor v_normals = at::empty_like(n), v_distances = at::empty_like(d);
  check_launch(launch_plane_depth_bwd(images_of(n, d, k), read_or_null<float>(g),
                                      read_or_null<bool>(ok), write_or_null<float>(v_normals),
                                      write_or_null<float>(v_distances),
                                      current_stream(normals.device())),
               op);
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
