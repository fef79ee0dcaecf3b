#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // centers [2, B, C]: subtracted from the images before moments are taken; no gradient.
  // partials [n_partials, B, C, H, W]: derivatives of the map by the windowed moments, in the
  // order mu1, E11, E12, mu2; n_partials 0 (inference), 3 (gradient of img1) or 4 (of both).
  m.def("fused_ssim_fwd(Tensor img1, Tensor img2, Tensor centers, int n_partials)"
        " -> (Tensor map, Tensor partials)");
  m.def("fused_ssim_bwd(Tensor v_map, Tensor img1, Tensor img2, Tensor centers, Tensor partials)"
        " -> (Tensor v_img1, Tensor v_img2)");
}
