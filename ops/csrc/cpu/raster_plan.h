// How images are cut into jobs, and the bookkeeping that all CPU compositing shares.
#pragma once
#include <ATen/ATen.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/rasterize_kernels.h"

namespace mmc {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

const RasterKernels<float>& pick_float_kernels();  // best instruction set of this machine

template <typename T>
const RasterKernels<T>& kernels() {
  if constexpr (std::is_same_v<T, double>) {
    return raster_kernels_double();
  } else {
    static const RasterKernels<float>& chosen = pick_float_kernels();
    return chosen;
  }
}

// Memory that is not initialised, aligned to cache lines and to what T asks for.
template <typename T>
struct Buffer {
  static constexpr size_t kAlign = alignof(T) > 64 ? alignof(T) : 64;

  explicit Buffer(int64_t n) : data(static_cast<T*>(std::aligned_alloc(kAlign, bytes(n)))) {
    TORCH_CHECK(data, "out of memory: ", bytes(n), " bytes for rasterization");
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  static size_t bytes(int64_t n) {
    return (static_cast<size_t>(n) * sizeof(T) + kAlign) / kAlign * kAlign;
  }
  T* data;
};

struct Plan {
  int64_t images, th, tw, ts, subs, side;
  int64_t width, height;
  int64_t n_isects, padded;  // entries in use, and with the unused ones of capacity mode
  std::vector<TileJob> jobs;  // longest list first
  bool blocks;                // outputs are tile blocks instead of images
};

// Lists of fixed capacity end in entries of -1.
inline int64_t used_entries(const Tensor& flatten_ids) {
  const auto count = [](const auto* ids, int64_t n) {
    return std::partition_point(ids, ids + n, [](auto id) { return id >= 0; }) - ids;
  };
  return flatten_ids.scalar_type() == at::kLong
             ? count(flatten_ids.const_data_ptr<int64_t>(), flatten_ids.numel())
             : count(flatten_ids.const_data_ptr<int32_t>(), flatten_ids.numel());
}

inline Plan make_plan(const Tensor& offsets, const Tensor& flatten_ids, const OptTensor& masks,
                      const OptTensor& tile_ids, int64_t width, int64_t height,
                      int64_t tile_size) {
  Plan plan;
  plan.images = offsets.size(0);
  plan.th = offsets.size(1);
  plan.tw = offsets.size(2);
  plan.ts = tile_size;
  plan.side = (tile_size + kTile - 1) / kTile;
  plan.subs = plan.side * plan.side;
  plan.width = width;
  plan.height = height;
  plan.n_isects = used_entries(flatten_ids);
  plan.padded = flatten_ids.numel();
  plan.blocks = tile_ids.has_value();
  const int64_t* start = offsets.const_data_ptr<int64_t>();
  const bool* keep = masks ? masks->const_data_ptr<bool>() : nullptr;
  const int64_t* chosen = plan.blocks ? tile_ids->const_data_ptr<int64_t>() : nullptr;
  const int64_t per_image = plan.th * plan.tw, all = plan.images * per_image;
  const int64_t n = plan.blocks ? tile_ids->numel() : all;
  plan.jobs.reserve(n * plan.subs);
  for (int64_t k = 0; k < n; ++k) {
    const int64_t tile = chosen ? chosen[k] : k;
    TORCH_CHECK_VALUE(tile >= 0 && tile < all, "tile_ids: ", tile, " is not in [0, ", all, ")");
    const int64_t image = tile / per_image, ty = tile % per_image / plan.tw, tx = tile % plan.tw;
    TileJob job;
    job.image = image;
    job.begin = start[tile];
    job.end = tile + 1 < all ? start[tile + 1] : plan.n_isects;
    TORCH_CHECK_VALUE(0 <= job.begin && job.begin <= job.end && job.end <= plan.n_isects,
                      "isect_offsets: list ", tile, " is not a range in flatten_ids");
    TORCH_CHECK_VALUE(job.end - job.begin < (1 << 24), "a tile's list holds ",
                      job.end - job.begin, " entries, at most ", (1 << 24), " are supported");
    if (keep && !keep[tile]) job.end = job.begin;
    for (int64_t s = 0; s < plan.subs; ++s) {
      const int64_t dx = s % plan.side * kTile, dy = s / plan.side * kTile;
      job.sub = static_cast<int32_t>(s);
      job.x0 = static_cast<int32_t>(tx * plan.ts + dx);
      job.y0 = static_cast<int32_t>(ty * plan.ts + dy);
      job.w = static_cast<int32_t>(
          std::min<int64_t>({kTile, plan.ts - dx, width - job.x0}));
      job.h = static_cast<int32_t>(
          std::min<int64_t>({kTile, plan.ts - dy, height - job.y0}));
      if (job.w < 0) job.w = 0;
      if (job.h < 0) job.h = 0;
      if (plan.blocks) {
        job.pixel = (k * plan.ts + dy) * plan.ts + dx;
        job.row_stride = plan.ts;
      } else {
        job.pixel = (image * height + job.y0) * width + job.x0;
        job.row_stride = width;
      }
      plan.jobs.push_back(job);
    }
  }
  return plan;
}

// Order of work: longest lists first, so that the last tiles to finish are short ones.
inline std::vector<int32_t> longest_first(const std::vector<TileJob>& jobs) {
  std::vector<int32_t> order(jobs.size());
  for (size_t i = 0; i < jobs.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return jobs[a].end - jobs[a].begin > jobs[b].end - jobs[b].begin;
  });
  return order;
}

template <typename T, typename F>
void run_jobs(const std::vector<TileJob>& jobs, int64_t scratch, const F& f) {
  const std::vector<int32_t> order = longest_first(jobs);
  const int64_t n = static_cast<int64_t>(jobs.size());
  const int threads = thread_count(n, 2);
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> memory(scratch);
#pragma omp for schedule(dynamic, 1)
    for (int64_t k = 0; k < n; ++k) f(order[k], memory.data);
  }
}

// Ids index memory, so a list of other rows must not pass.
template <typename Id>
void check_ids(const Id* ids, int64_t n, int64_t rows) {
  bool outside = false;
  for (int64_t i = 0; i < n; ++i) outside |= uint64_t(int64_t(ids[i])) >= uint64_t(rows);
  for (int64_t i = 0; outside && i < n; ++i)
    TORCH_CHECK_INDEX(uint64_t(int64_t(ids[i])) < uint64_t(rows), "flatten_ids: entry ", i, " is ",
                      ids[i], ", but there are ", rows, " rows");
}

inline OptTensor contiguous(const OptTensor& t) {
  return t ? OptTensor(t->contiguous()) : OptTensor();
}

inline void check_ids(const int32_t* ids32, const int64_t* ids64, int64_t n, int64_t rows) {
  if (ids32)
    check_ids(ids32, n, rows);
  else
    check_ids(ids64, n, rows);
}

// Rows of partial sums ordered by (Gaussian, list position): slots[entry] for entries with hits,
// and the range of each Gaussian. A counting sort whose order does not depend on its parts.
template <typename Id>
std::unique_ptr<Buffer<int64_t>> assign_slots(const Id* ids, const uint16_t* hits, int64_t n,
                                              int64_t subs, int64_t rows, int64_t* range) {
  auto slots = std::make_unique<Buffer<int64_t>>(n * subs);
  const int parts = std::min(thread_count(n, 4096), 16);  // 4 bytes per row and part
  std::vector<std::vector<int32_t>> counts(parts);
  std::vector<int64_t> first(parts + 1, 0);
#pragma omp parallel num_threads(parts)
  {
#pragma omp for schedule(static, 1)
    for (int p = 0; p < parts; ++p) {
      counts[p].assign(rows, 0);
      int32_t* mine = counts[p].data();
      for (int64_t i = n * p / parts; i < n * (p + 1) / parts; ++i)
        for (int64_t s = 0; s < subs; ++s) mine[ids[i]] += hits[i * subs + s] != 0;
    }
#pragma omp for schedule(static, 1)
    for (int q = 0; q < parts; ++q) {
      int64_t sum = 0;
      for (int p = 0; p < parts; ++p)
        for (int64_t r = rows * q / parts; r < rows * (q + 1) / parts; ++r) sum += counts[p][r];
      first[q + 1] = sum;
    }
#pragma omp single
    for (int q = 0; q < parts; ++q) first[q + 1] += first[q];
    // Counts become places within the range of their Gaussian.
#pragma omp for schedule(static, 1)
    for (int q = 0; q < parts; ++q) {
      int64_t next = first[q];
      for (int64_t r = rows * q / parts; r < rows * (q + 1) / parts; ++r) {
        range[r] = next;
        int32_t inside = 0;
        for (int p = 0; p < parts; ++p) {
          const int32_t here = counts[p][r];
          counts[p][r] = inside;
          inside += here;
        }
        next += inside;
      }
    }
#pragma omp for schedule(static, 1)
    for (int p = 0; p < parts; ++p) {
      int32_t* mine = counts[p].data();
      for (int64_t i = n * p / parts; i < n * (p + 1) / parts; ++i)
        for (int64_t s = 0; s < subs; ++s) {
          const int64_t e = i * subs + s, row = ids[i];
          slots->data[e] = range[row] + mine[row];  // not read where there is no hit
          mine[row] += hits[e] != 0;
        }
    }
  }
  range[rows] = first[parts];
  return slots;
}

}  // namespace mmc
