// Cells of points.
#pragma once
#include "math/hd.h"

namespace mmc {

template <typename T>
struct PointGrid {
  T lo[3], size[3];
  int32_t dims[3];
};

// floor((p - lo) / size) in the type of the points; false outside the grid or not finite.
template <typename T>
MMC_HD bool point_cell(const T* p, const PointGrid<T>& g, int32_t* cell) {
  bool inside = true;
  for (int d = 0; d < 3; ++d) {
    const T c = floor_((p[d] - g.lo[d]) / g.size[d]);
    const bool in = c >= T(0) && c < T(g.dims[d]);  // false for NaN
    cell[d] = in ? static_cast<int32_t>(c) : -1;
    inside = inside && in;
  }
  return inside;
}

}  // namespace mmc
