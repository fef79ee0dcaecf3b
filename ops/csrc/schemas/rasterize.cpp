#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  m.def(
      "isect_tiles(Tensor means2d, Tensor radii, Tensor depths, Tensor? conics, "
      "Tensor? opacities, Tensor? image_ids, Tensor? masks, int n_images, int tile_size, "
      "int tile_width, int tile_height, int max_isects, bool wide_ids) -> "
      "(Tensor tiles_per_gauss, Tensor isect_ids, Tensor flatten_ids, Tensor isect_offsets, "
      "Tensor n_isects)");
  m.def(
      "rasterize_fwd(Tensor means2d, Tensor conics, Tensor colors, Tensor opacities, "
      "Tensor? backgrounds, Tensor? probe, Tensor? masks, Tensor isect_offsets, "
      "Tensor flatten_ids, Tensor? tile_ids, int width, int height, int tile_size, bool stats, "
      "float t_stop) -> (Tensor renders, Tensor alphas, Tensor final_t, Tensor last, Tensor hits, "
      "Tensor touched, Tensor peak)");
  m.def(
      "rasterize_bwd(Tensor v_renders, Tensor v_alphas, Tensor means2d, Tensor conics, "
      "Tensor colors, Tensor opacities, Tensor? backgrounds, Tensor? masks, "
      "Tensor isect_offsets, Tensor flatten_ids, Tensor? tile_ids, Tensor final_t, Tensor last, "
      "Tensor hits, int width, int height, int tile_size, bool geometry, bool features, "
      "bool absolute) -> (Tensor v_means2d, Tensor v_conics, Tensor v_colors, "
      "Tensor v_opacities, Tensor v_absolute, Tensor v_backgrounds)");
}
