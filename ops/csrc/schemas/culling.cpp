#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  m.def("frustum_cull(Tensor points, Tensor? radii, Tensor viewmats, Tensor Ks, int width,"
        " int height, float near, float far, float margin) -> Tensor");
  // mode: 0 floor, 1 round, 2 ceil, 3 progressive. Ratio and transition have size 0 otherwise.
  m.def("select_lod(Tensor anchors, Tensor levels, Tensor? extra_level, Tensor cam_centers,"
        " float voxel_size, int fork, int n_levels, float standard_dist, float resolution_scale,"
        " int mode) -> (Tensor mask, Tensor ratio, Tensor transition)");
}
