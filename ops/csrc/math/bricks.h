// Cubes of cells, and those that a box of cells meets.
#pragma once
#include "math/voxel.h"

namespace mmc {

struct Bricks {  // bricks per axis, of `edge` cells
  int32_t edge, count[3];

  MMC_HD int64_t total() const { return int64_t(count[0]) * count[1] * count[2]; }
};

MMC_HD Bricks make_bricks(const VoxelGrid<float>& g, int32_t edge) {
  Bricks b{edge, {0, 0, 0}};
  for (int d = 0; d < 3; ++d) b.count[d] = (g.dims[d] + edge - 1) / edge;
  return b;
}

MMC_HD bool box_empty(const IndexBox& b) { return b.hi[0] < b.lo[0]; }

// Bricks that a box meets, and the k-th of them (x slowest).
MMC_HD int64_t bricks_of_box(const Bricks& s, const IndexBox& b) {
  if (box_empty(b)) return 0;
  int64_t n = 1;
  for (int d = 0; d < 3; ++d) n *= b.hi[d] / s.edge - b.lo[d] / s.edge + 1;
  return n;
}
MMC_HD int64_t brick_of_box(const Bricks& s, const IndexBox& b, int64_t k) {
  const int64_t ny = b.hi[1] / s.edge - b.lo[1] / s.edge + 1;
  const int64_t nz = b.hi[2] / s.edge - b.lo[2] / s.edge + 1;
  const int64_t z = b.lo[2] / s.edge + k % nz, y = b.lo[1] / s.edge + k / nz % ny;
  const int64_t x = b.lo[0] / s.edge + k / (nz * ny);
  return (x * s.count[1] + y) * s.count[2] + z;
}

}  // namespace mmc
