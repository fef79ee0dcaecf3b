// Lists of Gaussians per brick of voxels, and the ordered reduction of their partial gradients.
#pragma once
#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "math/voxel.h"

namespace mmc {

template <typename T>
VoxelGrid<T> make_grid(c10::ArrayRef<double> range, c10::ArrayRef<double> size,
                       c10::ArrayRef<int64_t> shape) {
  VoxelGrid<T> g;
  for (int d = 0; d < 3; ++d) {
    g.lo[d] = static_cast<T>(range[d]);
    g.hi[d] = static_cast<T>(range[3 + d]);
    g.size[d] = static_cast<T>(size[d]);
    g.dims[d] = static_cast<int32_t>(shape[d]);
  }
  return g;
}

// A Gaussian prepared for one grid.
template <typename T>
struct BoxedGaussian {
  T mean[3];
  T amp;
  Whitening<T> white;
  IndexBox box;
};

struct BrickShape {
  int32_t edge[3];   // voxels per brick
  int32_t count[3];  // bricks per axis
  int64_t total;

  BrickShape(const int32_t* dims, int32_t x, int32_t y, int32_t z) : edge{x, y, z} {
    total = 1;
    for (int d = 0; d < 3; ++d) {
      count[d] = (dims[d] + edge[d] - 1) / edge[d];
      total *= count[d];
    }
  }
};

// entries[offsets[brick] .. offsets[brick + 1]): indices of the Gaussians whose box meets the
// brick, ascending. where[starts[g] .. starts[g + 1]): positions of Gaussian g in `entries`.
struct BrickLists {
  std::vector<int64_t> offsets, starts;
  std::vector<int32_t> entries;
  std::vector<int64_t> where;
};

template <typename F>
inline void for_each_brick(const IndexBox& box, const BrickShape& s, int64_t first, const F& f) {
  if (box.hi[0] < box.lo[0]) return;
  for (int32_t x = box.lo[0] / s.edge[0]; x <= box.hi[0] / s.edge[0]; ++x)
    for (int32_t y = box.lo[1] / s.edge[1]; y <= box.hi[1] / s.edge[1]; ++y)
      for (int32_t z = box.lo[2] / s.edge[2]; z <= box.hi[2] / s.edge[2]; ++z)
        f(first + (int64_t(x) * s.count[1] + y) * s.count[2] + z);
}

// Gaussians 0 .. n of each of `batch` samples; bricks of sample b are b * total .. (b + 1) * total.
template <typename T>
BrickLists list_bricks(const std::vector<BoxedGaussian<T>>& gaussians, int64_t batch, int64_t n,
                       const BrickShape& shape, bool backward) {
  TORCH_CHECK(batch * n <= std::numeric_limits<int32_t>::max(),
              "more than 2^31 - 1 Gaussians in one call");
  BrickLists lists;
  lists.offsets.assign(batch * shape.total + 1, 0);
  lists.starts.assign(batch * n + 1, 0);
  for (int64_t i = 0; i < batch * n; ++i) {
    int64_t bricks = 0;
    for_each_brick(gaussians[i].box, shape, i / n * shape.total, [&](int64_t brick) {
      ++lists.offsets[brick + 1];
      ++bricks;
    });
    lists.starts[i + 1] = lists.starts[i] + bricks;
  }
  for (size_t b = 1; b < lists.offsets.size(); ++b) lists.offsets[b] += lists.offsets[b - 1];
  lists.entries.resize(lists.offsets.back());
  if (backward) lists.where.resize(lists.offsets.back());
  std::vector<int64_t> next(lists.offsets.begin(), lists.offsets.end() - 1);
  int64_t seen = 0;
  for (int64_t i = 0; i < batch * n; ++i) {
    for_each_brick(gaussians[i].box, shape, i / n * shape.total, [&](int64_t brick) {
      const int64_t at = next[brick]++;
      lists.entries[at] = static_cast<int32_t>(i);
      if (backward) lists.where[seen++] = at;
    });
  }
  return lists;
}

// Rows of partial sums: the moments, then the padded channels.
constexpr int64_t kMomentSlots = 16;  // keeps the channels aligned to vectors
static_assert(kMoments <= kMomentSlots);
inline int64_t padded(int64_t channels) { return (channels + kVec - 1) / kVec * kVec; }

// Gradients of Gaussians from the rows of their bricks, added in list order. vjp(moments, whitening,
// out) gives that of the covariance or precision.
template <typename T, typename Vjp>
void write_gradients(const BrickLists& lists, const std::vector<T>& partials, int64_t channels,
                     const std::vector<Whitening<double>>& white, const Vjp& vjp, T* v_means,
                     T* v_shapes, T* v_amps, T* v_features) {
  const int64_t width = kMomentSlots + padded(channels);
  parallel_ranges(static_cast<int64_t>(white.size()), 64, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> sum(width);
    for (int64_t i = begin; i < end; ++i) {
      std::fill(sum.begin(), sum.end(), T(0));
      for (int64_t j = lists.starts[i]; j < lists.starts[i + 1]; ++j) {
        const T* row = partials.data() + lists.where[j] * width;
        for (int64_t c = 0; c < width; ++c) sum[c] += row[c];
      }
      const GaussianMoments<double> moments = read_moments(sum.data());
      double v3[3], v9[9];
      mean_vjp(moments, white[i], v3);
      vjp(moments, white[i], v9);
      v_amps[i] = sum[kAmp];
      for (int c = 0; c < 3; ++c) v_means[3 * i + c] = static_cast<T>(v3[c]);
      for (int c = 0; c < 9; ++c) v_shapes[9 * i + c] = static_cast<T>(v9[c]);
      std::copy_n(sum.data() + kMomentSlots, channels, v_features + i * channels);
    }
  });
}

// Rows [n][channels] copied to [n][cp], zeros behind.
template <typename T>
std::vector<T> pad_channels(const T* rows, int64_t n, int64_t channels, int64_t cp) {
  std::vector<T> out(n * cp, T(0));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < channels; ++c) out[i * cp + c] = rows[i * channels + c];
  return out;
}

}  // namespace mmc
