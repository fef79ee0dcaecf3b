// Tile lists on the CPU: visible rows are ordered by depth per image, tiles are emitted in that
// order, and one stable counting sort by tile finishes the lists. The result does not depend on
// the number of threads.
#include "math/intersect.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/parallel.h"

namespace mmc {
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

uint32_t depth_bits(float depth) {
  uint32_t bits;
  std::memcpy(&bits, &depth, sizeof bits);
  return bits;
}

struct Item {
  uint32_t key;
  int32_t image;
  int64_t row;
};

int bits_of(int64_t count) {
  int bits = 0;
  while ((int64_t(1) << bits) < count) ++bits;
  return bits;
}

// One stable pass of a radix sort by digit(item) in [0, size).
template <typename Digit>
void radix_pass(const std::vector<Item>& in, std::vector<Item>& out, int64_t size,
                const Digit& digit) {
  const int64_t n = static_cast<int64_t>(in.size());
  const int threads = thread_count(n, 1 << 14);
  std::vector<int64_t> starts(size * threads, 0);
#pragma omp parallel num_threads(threads)
  {
    const int t = omp_get_thread_num(), all = omp_get_num_threads();
    int64_t* mine = starts.data() + size * t;
    const int64_t lo = n * t / all, hi = n * (t + 1) / all;
    for (int64_t i = lo; i < hi; ++i) ++mine[digit(in[i])];
#pragma omp barrier
#pragma omp single
    {
      int64_t sum = 0;
      for (int64_t d = 0; d < size; ++d)
        for (int k = 0; k < all; ++k) {
          const int64_t count = starts[size * k + d];
          starts[size * k + d] = sum;
          sum += count;
        }
    }
    for (int64_t i = lo; i < hi; ++i) out[mine[digit(in[i])]++] = in[i];
  }
}

void sort_by_image_and_depth(std::vector<Item>& items, int64_t n_images) {
  std::vector<Item> other(items.size());
  for (int shift = 0; shift < 32; shift += 11) {
    radix_pass(items, other, 1 << 11,
               [shift](const Item& item) { return (item.key >> shift) & 2047; });
    items.swap(other);
  }
  if (n_images > 1) {
    radix_pass(items, other, n_images, [](const Item& item) { return item.image; });
    items.swap(other);
  }
}

struct Grid {
  int64_t ts, tw, th, n_images;
  const bool* masks;
};

// The tiles of one row; calls emit(tile) in raster order.
template <typename T, typename Emit>
inline void visit_tiles(const Grid& grid, T x, T y, int32_t rx, int32_t ry, const T* conic,
                        const T* opacity, int64_t image, const Emit& emit) {
  const auto cells = [&](float lo, float hi, int64_t limit, int64_t& begin, int64_t& end) {
    const float top = static_cast<float>(limit), ts = static_cast<float>(grid.ts);
    begin = static_cast<int64_t>(clamp_(std::floor(lo / ts), 0.0f, top));
    end = static_cast<int64_t>(clamp_(std::ceil(hi / ts), 0.0f, top));
  };
  const float fx = static_cast<float>(x), fy = static_cast<float>(y);
  const float frx = static_cast<float>(rx), fry = static_cast<float>(ry);
  if (!(std::abs(fx) < 1e30f) || !(std::abs(fy) < 1e30f)) return;
  int64_t x0, x1, y0, y1;
  cells(fx - frx, fx + frx, grid.tw, x0, x1);
  cells(fy - fry, fy + fry, grid.th, y0, y1);
  if (x0 >= x1 || y0 >= y1) return;
  const bool* mask = grid.masks ? grid.masks + image * grid.th * grid.tw : nullptr;
  EllipseBand<T> band{};
  if (conic) {
    const T full = Splat<T>::extent * Splat<T>::extent;
    band = ellipse_band(conic[0], conic[1], conic[2], opacity ? alpha_level(*opacity) : full);
  }
  const T ts = static_cast<T>(grid.ts), span = ts - T(1);
  for (int64_t ty = y0; ty < y1; ++ty) {
    int64_t begin = x0, end = x1;
    if (conic) {
      const T top = static_cast<T>(ty) * ts + T(0.5) - y;
      T left, right;
      if (!band_interval(band, top, top + span, left, right)) continue;
      // Tiles whose pixel centres [tx ts + 0.5, tx ts + ts - 0.5] meet the interval.
      const T lo = (x + left - (ts - T(0.5))) / ts, hi = (x + right - T(0.5)) / ts;
      const T clamped_lo = clamp_(std::ceil(lo), static_cast<T>(x0), static_cast<T>(x1));
      const T clamped_hi =
          clamp_(std::floor(hi) + T(1), static_cast<T>(x0), static_cast<T>(x1));
      begin = static_cast<int64_t>(clamped_lo);
      end = static_cast<int64_t>(clamped_hi);
    }
    for (int64_t tx = begin; tx < end; ++tx) {
      const int64_t tile = ty * grid.tw + tx;
      if (!mask || mask[tile]) emit(tile);
    }
  }
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Result build(const Tensor& means2d, const Tensor& radii, const Tensor& depths,
             const OptTensor& conics, const OptTensor& opacities, const OptTensor& image_ids,
             const Grid& grid, int64_t max_isects, bool wide_ids) {
  const int64_t rows = radii.numel() / 2, n_tiles = grid.tw * grid.th;
  const T* mean = means2d.const_data_ptr<T>();
  const int32_t* radius = radii.const_data_ptr<int32_t>();
  const T* depth = depths.const_data_ptr<T>();
  const T* conic = conics ? conics->const_data_ptr<T>() : nullptr;
  const T* opacity = opacities ? opacities->const_data_ptr<T>() : nullptr;
  const int64_t* image_of = image_ids ? image_ids->const_data_ptr<int64_t>() : nullptr;
  const int64_t per_image = grid.n_images > 0 ? std::max<int64_t>(1, rows / grid.n_images) : 1;

  std::vector<Item> items;
  items.reserve(rows);
  bool negative = false;
  for (int64_t r = 0; r < rows; ++r) {
    if (radius[2 * r] <= 0 || radius[2 * r + 1] <= 0) continue;
    const int64_t image = image_of ? image_of[r] : r / per_image;
    TORCH_CHECK_INDEX(image >= 0 && image < grid.n_images, "image_ids: ", image, " at row ", r,
                      " is not in [0, ", grid.n_images, ")");
    const uint32_t key = depth_bits(static_cast<float>(depth[r]));
    negative |= (key >> 31) != 0;
    items.push_back({key, static_cast<int32_t>(image), r});
  }
  if (negative)  // order-preserving map of signed floats
    for (Item& item : items)
      item.key = item.key >> 31 ? ~item.key : item.key | 0x80000000u;
  sort_by_image_and_depth(items, grid.n_images);

  // Emit (tile, item) pairs of contiguous ranges of items; a range per part keeps order.
  Tensor counts = at::zeros(radii.sizes().slice(0, radii.dim() - 1), radii.options());
  int32_t* count = counts.mutable_data_ptr<int32_t>();
  const int64_t n = static_cast<int64_t>(items.size());
  const int64_t all_tiles = grid.n_images * n_tiles;
  const int parts = thread_count(n, 2048);
  std::vector<std::vector<int64_t>> tiles(parts);
  std::vector<std::vector<int64_t>> starts(parts);
  std::vector<int64_t> emitted(parts, 0);
  // Equal numbers of items are not equal numbers of tiles, but close after sorting by depth.
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int p = 0; p < parts; ++p) {
    std::vector<int64_t>& out = tiles[p];
    std::vector<int64_t>& histogram = starts[p];
    histogram.assign(all_tiles, 0);
    const int64_t lo = n * p / parts, hi = n * (p + 1) / parts;
    out.reserve((hi - lo) * 4);
    for (int64_t i = lo; i < hi; ++i) {
      const int64_t r = items[i].row, base = items[i].image * n_tiles;
      const size_t before = out.size();
      visit_tiles<T>(grid, mean[2 * r], mean[2 * r + 1], radius[2 * r], radius[2 * r + 1],
                     conic ? conic + 3 * r : nullptr, opacity ? opacity + r : nullptr,
                     items[i].image, [&](int64_t tile) {
                       out.push_back(base + tile);
                       ++histogram[base + tile];
                     });
      count[r] = static_cast<int32_t>(out.size() - before);
    }
    emitted[p] = static_cast<int64_t>(out.size());
  }
  const int64_t total = std::accumulate(emitted.begin(), emitted.end(), int64_t(0));
  const int64_t size = max_isects >= 0 ? max_isects : total;
  Tensor offsets = at::empty({grid.n_images, grid.th, grid.tw}, radii.options().dtype(at::kLong));
  int64_t* offset = offsets.mutable_data_ptr<int64_t>();
  int64_t sum = 0;
  for (int64_t t = 0; t < all_tiles; ++t) {
    offset[t] = std::min(sum, size);
    for (int p = 0; p < parts; ++p) {
      const int64_t here = starts[p][t];
      starts[p][t] = sum;
      sum += here;
    }
  }
  const bool wide = wide_ids || rows >= (int64_t(1) << 31);
  Tensor isect_ids = at::empty({size}, radii.options().dtype(at::kLong));
  Tensor flatten_ids = at::empty({size}, radii.options().dtype(wide ? at::kLong : at::kInt));
  if (size > total) {
    isect_ids.slice(0, total).fill_(std::numeric_limits<int64_t>::max());
    flatten_ids.slice(0, total).fill_(-1);
  }
  int64_t* keys = isect_ids.mutable_data_ptr<int64_t>();
  int32_t* ids32 = wide ? nullptr : flatten_ids.mutable_data_ptr<int32_t>();
  int64_t* ids64 = wide ? flatten_ids.mutable_data_ptr<int64_t>() : nullptr;
  const int shift = 32 + bits_of(n_tiles);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int p = 0; p < parts; ++p) {
    const int64_t lo = n * p / parts, hi = n * (p + 1) / parts;
    const int64_t* next = tiles[p].data();
    for (int64_t i = lo; i < hi; ++i) {
      const Item item = items[i];
      const int64_t base = item.image * n_tiles;
      // A count of one image or tile takes no bits, so that shifts stay below 64.
      const uint64_t high = grid.n_images > 1 ? uint64_t(item.image) << shift : 0;
      for (int32_t k = 0; k < count[item.row]; ++k) {
        const int64_t tile = *next++, slot = starts[p][tile]++;
        if (slot >= size) continue;
        keys[slot] = static_cast<int64_t>(high | uint64_t(tile - base) << 32 | item.key);
        if (ids32)
          ids32[slot] = static_cast<int32_t>(item.row);
        else
          ids64[slot] = item.row;
      }
    }
  }
  Tensor found = at::full({}, total, radii.options().dtype(at::kLong));
  return {counts, isect_ids, flatten_ids, offsets, found};
}

OptTensor contiguous(const OptTensor& t) {
  return t ? OptTensor(t->contiguous()) : OptTensor();
}

Result isect_tiles(const Tensor& means2d, const Tensor& radii, const Tensor& depths,
                   const OptTensor& conics, const OptTensor& opacities,
                   const OptTensor& image_ids, const OptTensor& masks, int64_t n_images,
                   int64_t tile_size, int64_t tile_width, int64_t tile_height, int64_t max_isects,
                   bool wide_ids) {
  const Tensor m = means2d.contiguous(), r = radii.contiguous(), d = depths.contiguous();
  const OptTensor mask = contiguous(masks);
  const Grid grid{tile_size, tile_width, tile_height, n_images,
                  mask ? mask->const_data_ptr<bool>() : nullptr};
  if (means2d.scalar_type() == at::kDouble)
    return build<double>(m, r, d, contiguous(conics), contiguous(opacities),
                         contiguous(image_ids), grid, max_isects, wide_ids);
  return build<float>(m, r, d, contiguous(conics), contiguous(opacities), contiguous(image_ids),
                      grid, max_isects, wide_ids);
}

}  // namespace
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) { m.impl("isect_tiles", &mmc::isect_tiles); }
