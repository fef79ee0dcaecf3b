// Tile lists on the CPU: tiles are found row by row (sixteen rows' ellipses at a time), visible
// rows are sorted by depth per image, and one counting sort by tile in that order finishes the
// lists. The result does not depend on the number of threads.
#include "math/intersect.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cstring>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace mmc {
namespace intersection_cpu {  // several files may be compiled as one
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

uint32_t depth_bits(float depth) {
  uint32_t bits;
  std::memcpy(&bits, &depth, sizeof bits);
  return bits;
}

struct Item {
  uint32_t key, row;
};
constexpr int64_t kMaxRows = int64_t(1) << 32;

int bits_of(int64_t count) {
  int bits = 0;
  while ((int64_t(1) << bits) < count) ++bits;
  return bits;
}

// Stable sort by image(row), then key: passes of eleven bits, all in one parallel region. Digits
// that all keys share (`differ` has the bits that do not) are skipped.
template <typename Image>
void sort_by_image_and_depth(std::vector<Item>& items, uint32_t differ, int64_t n_images,
                             const Image& image) {
  constexpr int kBits = 11;
  const int64_t n = static_cast<int64_t>(items.size());
  std::vector<int> shifts;
  for (int shift = 0; shift < 32; shift += kBits)
    if ((differ >> shift) & ((1u << kBits) - 1)) shifts.push_back(shift);
  const int passes = static_cast<int>(shifts.size()) + (n_images > 1);
  if (passes == 0 || n == 0) return;
  std::vector<Item> other(n);
  const int threads = thread_count(n, 4096);
  const int64_t size = std::max<int64_t>(1 << kBits, n_images);
  std::vector<int64_t> starts(size * threads);
  Item *in = items.data(), *out = other.data();
  // The counts of part p, then its first places. A team may be smaller than was asked for, so
  // parts are shared out by loops.
  const auto pass = [&](int64_t buckets, const auto& digit) {
#pragma omp for schedule(static, 1)
    for (int p = 0; p < threads; ++p) {
      int64_t* mine = starts.data() + size * p;
      std::fill(mine, mine + buckets, int64_t(0));
      for (int64_t i = n * p / threads; i < n * (p + 1) / threads; ++i) ++mine[digit(in[i])];
    }
#pragma omp single
    {
      int64_t sum = 0;
      for (int64_t d = 0; d < buckets; ++d)
        for (int p = 0; p < threads; ++p) {
          const int64_t count = starts[size * p + d];
          starts[size * p + d] = sum;
          sum += count;
        }
    }
#pragma omp for schedule(static, 1)
    for (int p = 0; p < threads; ++p) {
      int64_t* mine = starts.data() + size * p;
      for (int64_t i = n * p / threads; i < n * (p + 1) / threads; ++i)
        out[mine[digit(in[i])]++] = in[i];
    }
#pragma omp single
    std::swap(in, out);
  };
#pragma omp parallel num_threads(threads)
  {
    for (const int shift : shifts)
      pass(1 << kBits, [shift](const Item& item) {
        return (item.key >> shift) & ((1u << kBits) - 1);
      });
    if (n_images > 1) pass(n_images, [&](const Item& item) { return image(item.row); });
  }
  if (passes % 2) items.swap(other);
}

struct Grid {
  int64_t ts, tw, th, n_images;
  const bool* masks;
};

template <typename T>
struct RowsIn {
  const T *means, *conics, *opacities;  // [rows, 2], [rows, 3] or null, [rows] or null
  const int32_t* radii;                 // [rows, 2]
};

// Level set bands of sixteen rows from `first` on; see intersect.h.
struct BandKernel {
  template <typename T>
  static MMC_HD void run(RowsIn<T> in, int64_t first, int n, EllipseBands<T>* out) {
    const T full = Splat<T>::extent * Splat<T>::extent;
    alignas(64) T a[16] = {}, b[16] = {}, c[16] = {}, level[16] = {};
    for (int l = 0; l < n; ++l) {
      a[l] = in.conics[3 * (first + l)];
      b[l] = in.conics[3 * (first + l) + 1];
      c[l] = in.conics[3 * (first + l) + 2];
      level[l] = in.opacities ? in.opacities[first + l] : T(1);
    }
    for (int l = 0; l < 16; ++l) level[l] = in.opacities ? alpha_level(level[l]) : full;
    out->compute(a, b, c, level);
  }
};

// The tiles of one row, appended to `out` in raster order (numbers within all images).
template <typename T>
inline void append_tiles(const Grid& grid, const RowsIn<T>& in, int64_t row, int64_t image,
                         const EllipseBand<T>* band, std::vector<int32_t>& out) {
  const T x = in.means[2 * row], y = in.means[2 * row + 1];
  const float fx = static_cast<float>(x), fy = static_cast<float>(y);
  const float rx = static_cast<float>(in.radii[2 * row]);
  const float ry = static_cast<float>(in.radii[2 * row + 1]);
  if (!(std::abs(fx) < 1e30f) || !(std::abs(fy) < 1e30f)) return;
  const float edge = static_cast<float>(grid.ts);
  // Clamped first, then cut: numbers are not negative, and the library's floor is a slow call on
  // baseline processors.
  const auto below = [&](float v, int64_t limit) {
    return static_cast<int64_t>(clamp_(v / edge, 0.0f, static_cast<float>(limit)));
  };
  const auto above = [&](float v, int64_t limit) {
    const float cell = clamp_(v / edge, 0.0f, static_cast<float>(limit));
    const int64_t whole = static_cast<int64_t>(cell);
    return whole + (static_cast<float>(whole) < cell);
  };
  const int64_t x0 = below(fx - rx, grid.tw), x1 = above(fx + rx, grid.tw);
  const int64_t y0 = below(fy - ry, grid.th), y1 = above(fy + ry, grid.th);
  if (x0 >= x1 || y0 >= y1) return;
  const int64_t base = image * grid.th * grid.tw;
  const bool* mask = grid.masks ? grid.masks + base : nullptr;
  const T ts = static_cast<T>(grid.ts), span = ts - T(1), inverse = T(1) / ts;
  for (int64_t ty = y0; ty < y1; ++ty) {
    int64_t begin = x0, end = x1;
    if (band) {
      const T top = static_cast<T>(ty) * ts + T(0.5) - y;
      T left, right;
      if (!band_interval(*band, top, top + span, left, right)) continue;
      // Tiles whose pixel centres [tx ts + 0.5, tx ts + ts - 0.5] meet the interval; the slack
      // covers the rounding of the division.
      const T lo = (x + left - (ts - T(0.5))) * inverse - T(1e-6);
      const T hi = (x + right - T(0.5)) * inverse + T(1e-6);
      const T least = static_cast<T>(x0), most = static_cast<T>(x1);
      const T first = clamp_(lo, least, most);
      begin = static_cast<int64_t>(first);
      begin += static_cast<T>(begin) < first;
      end = hi < least ? x0 : static_cast<int64_t>(min_(hi, most - T(0.5))) + 1;
    }
    for (int64_t tx = begin; tx < end; ++tx) {
      const int64_t tile = ty * grid.tw + tx;
      if (!mask || mask[tile]) out.push_back(static_cast<int32_t>(base + tile));
    }
  }
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Result build(const Tensor& means2d, const Tensor& radii, const Tensor& depths,
             const OptTensor& conics, const OptTensor& opacities, const OptTensor& image_ids,
             const Grid& grid, int64_t max_isects, bool wide_ids) {
  const int64_t rows = radii.numel() / 2, n_tiles = grid.tw * grid.th;
  const int64_t all_tiles = grid.n_images * n_tiles;
  TORCH_CHECK_VALUE(all_tiles < (int64_t(1) << 31), "too many tiles: ", all_tiles);
  const RowsIn<T> in{means2d.const_data_ptr<T>(), conics ? conics->const_data_ptr<T>() : nullptr,
                     opacities ? opacities->const_data_ptr<T>() : nullptr,
                     radii.const_data_ptr<int32_t>()};
  const T* depth = depths.const_data_ptr<T>();
  const int64_t* image_of = image_ids ? image_ids->const_data_ptr<int64_t>() : nullptr;
  const int64_t per_image = grid.n_images > 0 ? std::max<int64_t>(1, rows / grid.n_images) : 1;
  const auto row_image = [&](int64_t r) { return image_of ? image_of[r] : r / per_image; };
  TORCH_CHECK_VALUE(rows < kMaxRows, "at most ", kMaxRows - 1, " rows are listed at once, got ",
                    rows, ": render fewer images at once");
  if (image_of) {
    bool outside = false;
    for (int64_t r = 0; r < rows; ++r)
      outside |= uint64_t(image_of[r]) >= uint64_t(grid.n_images);
    for (int64_t r = 0; outside && r < rows; ++r)
      TORCH_CHECK_INDEX(uint64_t(image_of[r]) < uint64_t(grid.n_images), "image_ids: ",
                        image_of[r], " at row ", r, " is not in [0, ", grid.n_images, ")");
  }

  // Tiles of each row, found in the order of rows.
  Tensor counts = at::zeros(radii.sizes().slice(0, radii.dim() - 1), radii.options());
  int32_t* count = counts.mutable_data_ptr<int32_t>();
  const int finders = thread_count(rows, 2048);
  std::vector<std::vector<int32_t>> found(finders);
  std::vector<const int32_t*> row_tiles(rows);
#pragma omp parallel for num_threads(finders) schedule(static, 1)
  for (int p = 0; p < finders; ++p) {
    std::vector<int32_t>& out = found[p];
    const int64_t lo = rows * p / finders, hi = rows * (p + 1) / finders;
    out.reserve((hi - lo) * 4);
    EllipseBands<T> bands;
    for (int64_t first = lo; first < hi; first += 16) {
      const int n = static_cast<int>(std::min<int64_t>(16, hi - first));
      if (in.conics) dispatch<BandKernel>(in, first, n, &bands);
      for (int l = 0; l < n; ++l) {
        const int64_t r = first + l;
        if (in.radii[2 * r] <= 0 || in.radii[2 * r + 1] <= 0) continue;
        const EllipseBand<T> band = bands.at(l);
        const size_t before = out.size();
        append_tiles(grid, in, r, row_image(r), in.conics ? &band : nullptr, out);
        count[r] = static_cast<int32_t>(out.size() - before);
      }
    }
    const int32_t* next = out.data();
    for (int64_t r = lo; r < hi; ++r) {
      row_tiles[r] = next;
      next += count[r];
    }
  }

  // Rows that touch a tile, nearest first.
  std::vector<int64_t> kept(finders + 1, 0);
  std::vector<uint32_t> any(finders, 0), all(finders, ~0u);
#pragma omp parallel for num_threads(finders) schedule(static, 1)
  for (int p = 0; p < finders; ++p) {
    int64_t mine = 0;
    uint32_t some = 0, every = ~0u;
    for (int64_t r = rows * p / finders; r < rows * (p + 1) / finders; ++r) {
      const bool listed = count[r] != 0;
      const uint32_t key = depth_bits(static_cast<float>(depth[r]));
      mine += listed;
      some |= listed ? key : 0u;
      every &= listed ? key : ~0u;
    }
    kept[p + 1] = mine;
    any[p] = some;
    all[p] = every;
  }
  uint32_t some = 0, every = ~0u;
  for (int p = 0; p < finders; ++p) {
    kept[p + 1] += kept[p];
    some |= any[p];
    every &= all[p];
  }
  const bool negative = (some >> 31) != 0;
  std::vector<Item> items(kept[finders]);
#pragma omp parallel for num_threads(finders) schedule(static, 1)
  for (int p = 0; p < finders; ++p) {
    Item* next = items.data() + kept[p];
    for (int64_t r = rows * p / finders; r < rows * (p + 1) / finders; ++r) {
      if (count[r] == 0) continue;
      uint32_t key = depth_bits(static_cast<float>(depth[r]));
      // order-preserving map of signed floats
      if (negative) key = key >> 31 ? ~key : key | 0x80000000u;
      *next++ = {key, static_cast<uint32_t>(r)};
    }
  }
  sort_by_image_and_depth(items, negative ? ~0u : some & ~every, grid.n_images, row_image);

  // Counting sort by tile; each part takes a contiguous range of items, so that order holds.
  const int64_t n = static_cast<int64_t>(items.size());
  const int parts = thread_count(n, 4096);
  std::vector<std::vector<int64_t>> starts(parts);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int p = 0; p < parts; ++p) {
    starts[p].assign(all_tiles, 0);
    for (int64_t i = n * p / parts; i < n * (p + 1) / parts; ++i) {
      const int32_t* tiles = row_tiles[items[i].row];
      for (int32_t k = 0; k < count[items[i].row]; ++k) ++starts[p][tiles[k]];
    }
  }
  int64_t total = 0;
  for (const auto& part : found) total += static_cast<int64_t>(part.size());
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
    for (int64_t i = lo; i < hi; ++i) {
      const Item item = items[i];
      const int32_t* tiles = row_tiles[item.row];
      const int64_t image = grid.n_images > 1 ? row_image(item.row) : 0;
      const int64_t base = image * n_tiles;
      // A count of one image or tile takes no bits, so that shifts stay below 64.
      const uint64_t high = grid.n_images > 1 ? uint64_t(image) << shift : 0;
      for (int32_t k = 0; k < count[item.row]; ++k) {
        const int64_t tile = tiles[k], slot = starts[p][tile]++;
        if (slot >= size) continue;
        keys[slot] = static_cast<int64_t>(high | uint64_t(tile - base) << 32 | item.key);
        if (ids32)
          ids32[slot] = static_cast<int32_t>(item.row);  // rows < 2^31 here
        else
          ids64[slot] = item.row;
      }
    }
  }
  Tensor n_found = at::full({}, total, radii.options().dtype(at::kLong));
  return {counts, isect_ids, flatten_ids, offsets, n_found};
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
}  // namespace intersection_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("isect_tiles", &mmc::intersection_cpu::isect_tiles);
}
