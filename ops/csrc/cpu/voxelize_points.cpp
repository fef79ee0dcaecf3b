// Points to voxels on the CPU: cells, voxels in order of first appearance, grouped reductions.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/parallel.h"
#include "math/points.h"

namespace mmc {
namespace voxelize_points_cpu {  // several files may be compiled as one
namespace {

template <typename T>
PointGrid<T> point_grid(at::ArrayRef<double> size, at::ArrayRef<double> range) {
  PointGrid<T> g;
  for (int d = 0; d < 3; ++d) {
    g.lo[d] = static_cast<T>(range[d]);
    g.size[d] = static_cast<T>(size[d]);
    g.dims[d] = static_cast<int32_t>(std::lround((range[3 + d] - range[d]) / size[d]));
  }
  return g;
}

at::Tensor voxelize_dynamic(const at::Tensor& points, at::ArrayRef<double> size,
                            at::ArrayRef<double> range) {
  const at::Tensor p = points.contiguous();
  const int64_t n = p.size(0), width = p.size(1);
  at::Tensor coors = at::empty({n, 3}, p.options().dtype(at::kInt));
  AT_DISPATCH_FLOATING_TYPES(p.scalar_type(), "voxelize_dynamic", [&] {
    const PointGrid<scalar_t> grid = point_grid<scalar_t>(size, range);
    const scalar_t* x = p.const_data_ptr<scalar_t>();
    int32_t* out = coors.data_ptr<int32_t>();
    parallel_ranges(n, 16384, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int32_t cell[3];
        const bool inside = point_cell(x + i * width, grid, cell);
        for (int d = 0; d < 3; ++d) out[3 * i + d] = inside ? cell[2 - d] : -1;
      }
    });
  });
  return coors;
}

// Open addressing from a cell to its voxel number.
class CellTable {
 public:
  explicit CellTable(int64_t n) {
    int64_t slots = 64;
    while (slots < 2 * n) slots *= 2;
    keys_.assign(slots, -1);
    values_.resize(slots);
    mask_ = static_cast<uint64_t>(slots - 1);
  }
  // Voxel of the cell; -1 after adding it with `value`.
  int32_t find_or_add(int64_t key, int32_t value) {
    uint64_t at = (static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15ull >> 20) & mask_;
    while (keys_[at] != -1) {
      if (keys_[at] == key) return values_[at];
      at = (at + 1) & mask_;
    }
    keys_[at] = key;
    values_[at] = value;
    return -1;
  }

 private:
  std::vector<int64_t> keys_;
  std::vector<int32_t> values_;
  uint64_t mask_;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> voxelize_hard(
    const at::Tensor& points, at::ArrayRef<double> size, at::ArrayRef<double> range,
    int64_t max_points, int64_t max_voxels) {
  const at::Tensor p = points.contiguous();
  const int64_t n = p.size(0), width = p.size(1);
  const at::Tensor cells = voxelize_dynamic(p, size, range);
  const PointGrid<double> grid = point_grid<double>(size, range);
  const int32_t* c = cells.const_data_ptr<int32_t>();
  constexpr int32_t kDropped = -2;  // a cell that came after the last voxel
  std::vector<int32_t> counts;
  std::vector<int64_t> ids, first;
  CellTable table(std::min<int64_t>(n, int64_t(1) << 40));
  for (int64_t i = 0; i < n; ++i) {
    if (c[3 * i] < 0) continue;
    const int64_t key =
        (int64_t(c[3 * i]) * grid.dims[1] + c[3 * i + 1]) * grid.dims[0] + c[3 * i + 2];
    const bool room = static_cast<int64_t>(counts.size()) < max_voxels;
    const int32_t fresh = room ? static_cast<int32_t>(counts.size()) : kDropped;
    int32_t voxel = table.find_or_add(key, fresh);
    if (voxel == kDropped) continue;
    if (voxel == -1) {
      if (!room) continue;
      voxel = fresh;
      counts.push_back(0);
      first.push_back(i);
      ids.resize(ids.size() + max_points, -1);
    }
    if (counts[voxel] < max_points) ids[voxel * max_points + counts[voxel]++] = i;
  }
  const int64_t m = static_cast<int64_t>(counts.size());
  const auto ints = p.options().dtype(at::kInt);
  at::Tensor coors = at::empty({m, 3}, ints), num = at::empty({m}, ints);
  at::Tensor point_ids = at::empty({m, max_points}, p.options().dtype(at::kLong));
  if (m) {
    std::memcpy(num.data_ptr<int32_t>(), counts.data(), m * sizeof(int32_t));
    std::memcpy(point_ids.data_ptr<int64_t>(), ids.data(), ids.size() * sizeof(int64_t));
  }
  for (int64_t v = 0; v < m; ++v)
    std::copy_n(c + 3 * first[v], 3, coors.data_ptr<int32_t>() + 3 * v);
  at::Tensor voxels = at::zeros({m, max_points, width}, p.options());
  AT_DISPATCH_FLOATING_TYPES(p.scalar_type(), "voxelize_hard", [&] {
    const scalar_t* x = p.const_data_ptr<scalar_t>();
    scalar_t* out = voxels.data_ptr<scalar_t>();
    parallel_ranges(m, 4096, 1, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v)
        for (int32_t k = 0; k < counts[v]; ++k)
          std::copy_n(x + ids[v * max_points + k] * width, width,
                      out + (v * max_points + k) * width);
    });
  });
  return {voxels, coors, num, point_ids};
}

struct Keyed {
  uint64_t key;
  int64_t index;
};

// Stable sort by key, 11 bits at a time.
void radix_sort(std::vector<Keyed>& items, uint64_t largest) {
  std::vector<Keyed> other(items.size());
  for (int shift = 0; shift < 64 && (largest >> shift) != 0; shift += 11) {
    int64_t start[2049] = {0};
    for (const Keyed& k : items) ++start[((k.key >> shift) & 2047) + 1];
    for (int b = 0; b < 2048; ++b) start[b + 1] += start[b];
    for (const Keyed& k : items) other[start[(k.key >> shift) & 2047]++] = k;
    items.swap(other);
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> group_voxels(const at::Tensor& coors) {
  const at::Tensor c = coors.contiguous();
  const int64_t n = c.size(0), width = c.size(1);
  const int32_t* p = c.const_data_ptr<int32_t>();
  std::vector<uint64_t> extent(width, 1);
  std::vector<uint8_t> kept(n);
  for (int64_t i = 0; i < n; ++i) {
    bool keep = true;
    for (int64_t d = 0; d < width; ++d) keep &= p[i * width + d] >= 0;
    kept[i] = keep;
    for (int64_t d = 0; keep && d < width; ++d)
      extent[d] = std::max<uint64_t>(extent[d], uint64_t(p[i * width + d]) + 1);
  }
  uint64_t largest = 1;
  for (int64_t d = 0; d < width; ++d) {
    TORCH_CHECK_VALUE(!__builtin_mul_overflow(largest, extent[d], &largest),
                      "coors: the grid they span has more than 2^64 voxels");
  }
  std::vector<Keyed> items;
  items.reserve(n);
  for (int64_t i = 0; i < n; ++i) {
    if (!kept[i]) continue;
    uint64_t key = 0;
    for (int64_t d = 0; d < width; ++d) key = key * extent[d] + uint64_t(p[i * width + d]);
    items.push_back({key, i});
  }
  radix_sort(items, largest - 1);
  const auto longs = c.options().dtype(at::kLong);
  const int64_t k = static_cast<int64_t>(items.size());
  at::Tensor point2voxel = at::full({n}, -1, c.options()), order = at::empty({k}, longs);
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < k; ++i) {
    if (i == 0 || items[i].key != items[i - 1].key) offsets.push_back(i);
    order.data_ptr<int64_t>()[i] = items[i].index;
    point2voxel.data_ptr<int32_t>()[items[i].index] = static_cast<int32_t>(offsets.size()) - 1;
  }
  const int64_t m = static_cast<int64_t>(offsets.size());
  offsets.push_back(k);
  at::Tensor starts = at::empty({m + 1}, longs), voxels = at::empty({m, width}, c.options());
  std::copy(offsets.begin(), offsets.end(), starts.data_ptr<int64_t>());
  for (int64_t v = 0; v < m; ++v)
    std::copy_n(p + items[offsets[v]].index * width, width, voxels.data_ptr<int32_t>() + v * width);
  return {voxels, point2voxel, order, starts};
}

std::tuple<at::Tensor, at::Tensor> scatter_reduce(const at::Tensor& feats, const at::Tensor&,
                                                  const at::Tensor& order,
                                                  const at::Tensor& offsets,
                                                  c10::string_view reduce) {
  const at::Tensor f = feats.contiguous(), o = order.contiguous(), s = offsets.contiguous();
  const int64_t m = s.size(0) - 1, channels = f.size(1);
  const bool is_max = reduce == "max", is_mean = reduce == "mean";
  at::Tensor out = at::empty({m, channels}, f.options());
  at::Tensor argmax = at::empty({is_max ? m : 0, channels}, f.options().dtype(at::kLong));
  AT_DISPATCH_FLOATING_TYPES(f.scalar_type(), "scatter_reduce_voxels", [&] {
    const scalar_t* x = f.const_data_ptr<scalar_t>();
    const int64_t *ids = o.const_data_ptr<int64_t>(), *start = s.const_data_ptr<int64_t>();
    scalar_t* y = out.data_ptr<scalar_t>();
    int64_t* best = is_max ? argmax.data_ptr<int64_t>() : nullptr;
    parallel_ranges(m, 1024, 1, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        scalar_t* row = y + v * channels;
        std::copy_n(x + ids[start[v]] * channels, channels, row);
        if (is_max) std::fill_n(best + v * channels, channels, ids[start[v]]);
        for (int64_t i = start[v] + 1; i < start[v + 1]; ++i) {
          const scalar_t* in = x + ids[i] * channels;
          for (int64_t c = 0; c < channels; ++c) {
            if (!is_max) {
              row[c] += in[c];
            } else if (in[c] > row[c]) {  // ties keep the lowest index
              row[c] = in[c];
              best[v * channels + c] = ids[i];
            }
          }
        }
        if (is_mean) {
          const scalar_t count = static_cast<scalar_t>(start[v + 1] - start[v]);
          for (int64_t c = 0; c < channels; ++c) row[c] /= count;
        }
      }
    });
  });
  return {out, argmax};
}

}  // namespace
}  // namespace voxelize_points_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("voxelize_dynamic", &mmc::voxelize_points_cpu::voxelize_dynamic);
  m.impl("voxelize_hard", &mmc::voxelize_points_cpu::voxelize_hard);
  m.impl("group_voxels", &mmc::voxelize_points_cpu::group_voxels);
  m.impl("scatter_reduce_voxels", &mmc::voxelize_points_cpu::scatter_reduce);
}
