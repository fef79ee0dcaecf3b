#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // Dense: means [B, N, 3], viewmats [B, C, 4, 4], result [B, C, N, 4]. Packed, with ids [rows]:
  // means [N, 3], viewmats [C, 4, 4], result [rows, 4].
  m.def("plane_features_fwd(Tensor means, Tensor quats, Tensor scales, Tensor viewmats,"
        " Tensor? camera_ids, Tensor? gaussian_ids) -> Tensor");
  m.def("plane_features_bwd(Tensor v_features, Tensor means, Tensor quats, Tensor scales,"
        " Tensor viewmats, Tensor? camera_ids, Tensor? gaussian_ids, bool poses)"
        " -> (Tensor v_means, Tensor v_quats, Tensor v_viewmats)");
  m.def("plane_depth_fwd(Tensor normals, Tensor distances, Tensor alphas, Tensor Ks,"
        " float min_alpha, float min_cosine) -> (Tensor depth, Tensor valid)");
  m.def("plane_depth_bwd(Tensor v_depth, Tensor normals, Tensor distances, Tensor valid,"
        " Tensor Ks) -> (Tensor v_normals, Tensor v_distances)");
}
