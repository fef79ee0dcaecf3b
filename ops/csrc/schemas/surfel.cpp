#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  m.def(
      "surfel_fwd(Tensor means2d, Tensor transforms, Tensor features, Tensor opacities, "
      "Tensor? backgrounds, Tensor? masks, Tensor isect_offsets, Tensor flatten_ids, int width, "
      "int height, int tile_size) -> (Tensor renders, Tensor alphas, Tensor distortion, "
      "Tensor median, Tensor final_t, Tensor moments, Tensor last, Tensor hits)");
  m.def(
      "surfel_bwd(Tensor v_renders, Tensor v_alphas, Tensor v_distortion, Tensor v_median, "
      "Tensor means2d, Tensor transforms, Tensor features, Tensor opacities, "
      "Tensor? backgrounds, Tensor? masks, Tensor isect_offsets, Tensor flatten_ids, "
      "Tensor final_t, Tensor moments, Tensor last, Tensor hits, int width, int height, "
      "int tile_size) -> (Tensor v_means2d, Tensor v_transforms, Tensor v_features, "
      "Tensor v_opacities, Tensor v_backgrounds)");
}
