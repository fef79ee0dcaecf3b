#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // Leading sizes: means [..., N, 3], viewmats [..., C, 4, 4]; dense rows are [..., C, N].
  // camera_model: 0 pinhole, 1 ortho, 2 fisheye. Absent results are tensors of size 0.
  m.def("project_fwd(Tensor means, Tensor? covars, Tensor? quats, Tensor? scales, Tensor viewmats,"
        " Tensor Ks, Tensor? opacities, int width, int height, float eps2d, float near_plane,"
        " float far_plane, float radius_clip, bool calc_compensations, int camera_model)"
        " -> (Tensor radii, Tensor means2d, Tensor depths, Tensor conics, Tensor compensations)");
  m.def("project_packed_fwd(Tensor means, Tensor? covars, Tensor? quats, Tensor? scales,"
        " Tensor viewmats, Tensor Ks, Tensor? opacities, int width, int height, float eps2d,"
        " float near_plane, float far_plane, float radius_clip, bool calc_compensations,"
        " int camera_model)"
        " -> (Tensor batch_ids, Tensor camera_ids, Tensor gaussian_ids, Tensor indptr,"
        " Tensor radii, Tensor means2d, Tensor depths, Tensor conics, Tensor compensations)");
  // Dense rows are marked by radii > 0; packed rows come with gaussian_ids and indptr.
  // per_row: gradients of means, quats and scales as one row per packed row.
  m.def("project_bwd(Tensor means, Tensor? covars, Tensor? quats, Tensor? scales, Tensor viewmats,"
        " Tensor Ks, Tensor radii, Tensor? gaussian_ids, Tensor? indptr, int width, int height,"
        " float eps2d, int camera_model, Tensor? v_means2d, Tensor? v_depths, Tensor? v_conics,"
        " Tensor? v_compensations, bool need_viewmats, bool per_row)"
        " -> (Tensor v_means, Tensor v_covars, Tensor v_quats, Tensor v_scales,"
        " Tensor v_viewmats)");
}
