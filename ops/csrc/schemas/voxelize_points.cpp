#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // points [N, F], coors int32 [N, 3] in the order z, y, x; -1 outside
  m.def("voxelize_dynamic(Tensor points, float[] voxel_size, float[] point_cloud_range) -> Tensor");
  // point_ids int64 [M, max_points]: rows of `points` in each voxel, -1 where unused
  m.def("voxelize_hard(Tensor points, float[] voxel_size, float[] point_cloud_range,"
        " int max_points, int max_voxels)"
        " -> (Tensor voxels, Tensor coors, Tensor num_points, Tensor point_ids)");
  // order int64 [K]: points of the voxels one after the other; offsets int64 [M + 1]
  m.def("group_voxels(Tensor coors)"
        " -> (Tensor voxel_coors, Tensor point2voxel, Tensor order, Tensor offsets)");
  // argmax int64 [M, C] for "max", else empty
  m.def("scatter_reduce_voxels(Tensor feats, Tensor point2voxel, Tensor order, Tensor offsets,"
        " str reduce) -> (Tensor voxel_feats, Tensor argmax)");
}
