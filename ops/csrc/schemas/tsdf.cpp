#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // Updates the volume: tsdf, weight [M, X, Y, Z], color [M, X, Y, Z, 3] (or empty), blocks int32
  // [M, 3] in units of X, Y, Z voxels; image [H, W, 3] of the type of color, mask bool [H, W].
  m.def("tsdf_integrate_(Tensor(a!) tsdf, Tensor(b!) weight, Tensor(c!) color, Tensor blocks,"
        " Tensor depth, Tensor? image, Tensor? mask, Tensor K, Tensor viewmat, float[] origin,"
        " float voxel_size, float trunc, float frame_weight, float max_depth) -> ()");
  // Blocks of block_size^3 voxels near the surface a depth map shows, int32 [M, 3], sorted.
  m.def("tsdf_touched_blocks(Tensor depth, Tensor? mask, Tensor K, Tensor viewmat,"
        " float[] origin, float voxel_size, float trunc, float max_depth, int block_size)"
        " -> Tensor");
  // table int32 [256, 3 T]: edges (axis * 8 + lower corner) of the triangles, -1 where unused.
  m.def("marching_cubes(Tensor tsdf, Tensor weight, Tensor color, Tensor blocks, Tensor table,"
        " float[] origin, float voxel_size, float level, float min_weight)"
        " -> (Tensor vertices, Tensor faces, Tensor colors)");
}
