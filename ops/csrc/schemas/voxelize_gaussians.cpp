#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // means [B, N, 3], covars [B, N, 3, 3], opacities [B, N], features [B, N, C] (C may be 0);
  // density [B, X, Y, Z], voxel_features [B, X, Y, Z, C]. vol_range: lower then upper corner.
  m.def("gaussians_to_voxels_fwd(Tensor means, Tensor covars, Tensor opacities, Tensor features,"
        " float[] vol_range, float[] voxel_size, int[] grid_shape, float extent, float eps,"
        " bool normalize) -> (Tensor density, Tensor voxel_features)");
  m.def("gaussians_to_voxels_bwd(Tensor v_density, Tensor v_voxel_features, Tensor means,"
        " Tensor covars, Tensor opacities, Tensor features, Tensor density, Tensor voxel_features,"
        " float[] vol_range, float[] voxel_size, int[] grid_shape, float extent, float eps,"
        " bool normalize) -> (Tensor v_means, Tensor v_covars, Tensor v_opacities,"
        " Tensor v_features)");
}
