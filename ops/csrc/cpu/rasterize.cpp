// Driver of the CPU rasterizer: cuts images into jobs, runs the tile kernels of the best
// instruction set, and adds up the gradients of each Gaussian in list order, so that results are
// bitwise equal for any number of threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/rasterize_kernels.h"
#include "math/alpha.h"

namespace mmc {
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

const RasterKernels<float>& pick_float_kernels() {
#if defined(__x86_64__)
  if (isa() == Isa::avx512) return raster_kernels_avx512();
  if (isa() == Isa::avx2) return raster_kernels_avx2();
#endif
  return raster_kernels_base();
}

template <typename T>
const RasterKernels<T>& kernels();
template <>
const RasterKernels<float>& kernels() {
  static const RasterKernels<float>& chosen = pick_float_kernels();
  return chosen;
}
template <>
const RasterKernels<double>& kernels() {
  return raster_kernels_double();
}

// 64-byte aligned memory that is not initialised.
template <typename T>
struct Buffer {
  explicit Buffer(int64_t n) : data(static_cast<T*>(std::aligned_alloc(64, bytes(n)))) {
    TORCH_CHECK(data, "out of memory: ", bytes(n), " bytes for rasterization");
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  static size_t bytes(int64_t n) { return (static_cast<size_t>(n) * sizeof(T) + 64) / 64 * 64; }
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
int64_t used_entries(const Tensor& flatten_ids) {
  const auto count = [](const auto* ids, int64_t n) {
    return std::partition_point(ids, ids + n, [](auto id) { return id >= 0; }) - ids;
  };
  return flatten_ids.scalar_type() == at::kLong
             ? count(flatten_ids.const_data_ptr<int64_t>(), flatten_ids.numel())
             : count(flatten_ids.const_data_ptr<int32_t>(), flatten_ids.numel());
}

Plan make_plan(const Tensor& offsets, const Tensor& flatten_ids, const OptTensor& masks,
               const OptTensor& tile_ids, int64_t width, int64_t height, int64_t tile_size) {
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
std::vector<int32_t> longest_first(const std::vector<TileJob>& jobs) {
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

template <typename T>
void fill_records(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                  const Tensor& opacities, bool cull, SplatRecord<T>* out) {
  const RowsIn<T> rows{means2d.const_data_ptr<T>(), conics.const_data_ptr<T>(),
                       colors.const_data_ptr<T>(), opacities.const_data_ptr<T>(),
                       means2d.size(0),            colors.size(1)};
  parallel_ranges(rows.n, 4096, 16, [&](int64_t begin, int64_t end) {
    kernels<T>().records(rows, begin, end, cull, out);
  });
}

template <typename T>
RasterIn<T> raster_in(const SplatRecord<T>* records, const Tensor& colors,
                      const OptTensor& backgrounds, const Tensor& flatten_ids, int64_t subs) {
  const bool wide = flatten_ids.scalar_type() == at::kLong;
  return {records,
          colors.const_data_ptr<T>(),
          backgrounds ? backgrounds->const_data_ptr<T>() : nullptr,
          wide ? nullptr : flatten_ids.const_data_ptr<int32_t>(),
          wide ? flatten_ids.const_data_ptr<int64_t>() : nullptr,
          colors.size(1),
          subs};
}

// Ids index memory, so a list of other rows must not pass.
template <typename Id>
void check_ids(const Id* ids, int64_t n, int64_t rows) {
  for (int64_t i = 0; i < n; ++i)
    TORCH_CHECK_INDEX(ids[i] < rows, "flatten_ids: entry ", i, " is ", ids[i], ", but there are ",
                      rows, " rows");
}

OptTensor contiguous(const OptTensor& t) {
  return t ? OptTensor(t->contiguous()) : OptTensor();
}

using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
ForwardResult forward(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                      const Tensor& opacities, const OptTensor& backgrounds, const Plan& plan,
                      const Tensor& flatten_ids, bool masked, bool stats) {
  const int64_t rows = means2d.size(0), channels = colors.size(1);
  std::vector<int64_t> shape{plan.images, plan.height, plan.width};
  if (plan.blocks) shape = {static_cast<int64_t>(plan.jobs.size()) / plan.subs, plan.ts, plan.ts};
  const auto options = means2d.options();
  const auto sized = [&](int64_t last) {
    std::vector<int64_t> out = shape;
    out.push_back(last);
    return out;
  };
  // Blocks may reach beyond the image; those pixels stay empty.
  Tensor renders = plan.blocks ? at::zeros(sized(channels), options)
                               : at::empty(sized(channels), options);
  Tensor alphas = plan.blocks ? at::zeros(sized(1), options) : at::empty(sized(1), options);
  Tensor final_t = plan.blocks ? at::ones(shape, options) : at::empty(shape, options);
  Tensor last = plan.blocks ? at::full(shape, -1, options.dtype(at::kInt))
                            : at::empty(shape, options.dtype(at::kInt));
  const int64_t entries = plan.padded * plan.subs;
  const bool partial = plan.blocks || masked || plan.padded != plan.n_isects;
  Tensor hits = partial ? at::zeros({entries}, options.dtype(at::kShort))
                        : at::empty({entries}, options.dtype(at::kShort));
  Tensor touched = at::zeros({stats ? entries : 0}, options.dtype(at::kInt));
  Tensor peak = at::zeros({stats ? entries : 0}, options);

  Buffer<SplatRecord<T>> records(rows);
  fill_records<T>(means2d, conics, colors, opacities, true, records.data);
  const RasterIn<T> in = raster_in<T>(records.data, colors, backgrounds, flatten_ids, plan.subs);
  if (in.ids32)
    check_ids(in.ids32, plan.n_isects, rows);
  else
    check_ids(in.ids64, plan.n_isects, rows);
  const ForwardOut<T> out{renders.mutable_data_ptr<T>(),
                          alphas.mutable_data_ptr<T>(),
                          final_t.mutable_data_ptr<T>(),
                          last.mutable_data_ptr<int32_t>(),
                          reinterpret_cast<uint16_t*>(hits.mutable_data_ptr<int16_t>()),
                          stats ? touched.mutable_data_ptr<int32_t>() : nullptr,
                          stats ? peak.mutable_data_ptr<T>() : nullptr};
  const auto& k = kernels<T>();
  run_jobs<T>(plan.jobs, k.scratch_size(channels, false),
              [&](int32_t j, T* scratch) { k.forward(in, out, plan.jobs[j], scratch); });
  if (!stats) return {renders, alphas, final_t, last, hits, touched, peak};
  // Fold the statistics of entries into rows: integer sums and maxima, in list order.
  Tensor row_touched = at::zeros({rows}, options.dtype(at::kInt));
  Tensor row_peak = at::zeros({rows}, options);
  int32_t* rt = row_touched.mutable_data_ptr<int32_t>();
  T* rp = row_peak.mutable_data_ptr<T>();
  for (int64_t i = 0; i < plan.n_isects; ++i) {
    const int64_t row = in.ids32 ? in.ids32[i] : in.ids64[i];
    for (int64_t s = 0; s < plan.subs; ++s) {
      rt[row] += out.touched[i * plan.subs + s];
      rp[row] = std::max(rp[row], out.peak[i * plan.subs + s]);
    }
  }
  return {renders, alphas, final_t, last, hits, row_touched, row_peak};
}

// Rows of partial sums ordered by (Gaussian, list position): slots[entry] for entries with hits,
// and the range of each Gaussian.
template <typename Id>
std::unique_ptr<Buffer<int64_t>> assign_slots(const Id* ids, const uint16_t* hits, int64_t n,
                                              int64_t subs, int64_t rows, int64_t* range) {
  auto slots = std::make_unique<Buffer<int64_t>>(n * subs);
  const int threads = thread_count(n, 1 << 15);
  std::memset(range, 0, (rows + 1) * sizeof(int64_t));
#pragma omp parallel num_threads(threads)
  {
    // Each thread owns a range of rows and reads the whole list: no races, one order.
    const int64_t lo = rows * omp_get_thread_num() / omp_get_num_threads();
    const int64_t hi = rows * (omp_get_thread_num() + 1) / omp_get_num_threads();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = ids[i];
      if (row < lo || row >= hi) continue;
      for (int64_t s = 0; s < subs; ++s) range[row + 1] += hits[i * subs + s] != 0;
    }
#pragma omp barrier
#pragma omp single
    for (int64_t r = 0; r < rows; ++r) range[r + 1] += range[r];
    std::vector<int64_t> next(range + lo, range + hi);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = ids[i];
      if (row < lo || row >= hi) continue;
      for (int64_t s = 0; s < subs; ++s) {
        const int64_t e = i * subs + s;
        slots->data[e] = hits[e] ? next[row - lo]++ : 0;
      }
    }
  }
  return slots;
}

using BackwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
BackwardResult backward(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& means2d,
                        const Tensor& conics, const Tensor& colors, const Tensor& opacities,
                        const OptTensor& backgrounds, const Plan& plan, const Tensor& flatten_ids,
                        const Tensor& final_t, const Tensor& last, const Tensor& hits,
                        bool geometry, bool features, bool absolute) {
  const int64_t rows = means2d.size(0), channels = colors.size(1);
  const auto options = means2d.options();
  const auto wanted = [&](bool want, at::IntArrayRef shape) {
    return want ? at::empty(shape, options) : at::empty({0}, options);
  };
  Tensor v_means = wanted(geometry, {rows, 2}), v_conics = wanted(geometry, {rows, 3});
  Tensor v_opacities = wanted(geometry, {rows}), v_colors = wanted(features, {rows, channels});
  Tensor v_absolute = wanted(absolute, {rows, 2});
  Tensor v_backgrounds = backgrounds ? at::zeros({plan.images, channels}, options)
                                     : at::empty({0}, options);
  const int64_t n_jobs = static_cast<int64_t>(plan.jobs.size());
  Tensor job_backgrounds =
      backgrounds ? at::zeros({n_jobs, channels}, options) : at::empty({0}, options);

  Buffer<SplatRecord<T>> records(rows);
  fill_records<T>(means2d, conics, colors, opacities, false, records.data);
  const RasterIn<T> in = raster_in<T>(records.data, colors, backgrounds, flatten_ids, plan.subs);
  const uint16_t* hit = reinterpret_cast<const uint16_t*>(hits.const_data_ptr<int16_t>());
  std::vector<int64_t> range(rows + 1);
  const auto slots = in.ids32 ? assign_slots(in.ids32, hit, plan.n_isects, plan.subs, rows,
                                             range.data())
                              : assign_slots(in.ids64, hit, plan.n_isects, plan.subs, rows,
                                             range.data());
  const int64_t sums = 6 + channels + (absolute ? 2 : 0), stride = (sums + 3) / 4 * 4;
  Buffer<T> partials(range[rows] * stride + 4);
  T* vb = backgrounds ? job_backgrounds.mutable_data_ptr<T>() : nullptr;
  BackwardIO<T> io{v_renders.const_data_ptr<T>(),
                   v_alphas.const_data_ptr<T>(),
                   final_t.const_data_ptr<T>(),
                   last.const_data_ptr<int32_t>(),
                   hit,
                   slots->data,
                   partials.data,
                   nullptr,
                   stride,
                   geometry || absolute,
                   features,
                   absolute};
  const auto& k = kernels<T>();
  run_jobs<T>(plan.jobs, k.scratch_size(channels, true), [&](int32_t j, T* scratch) {
    BackwardIO<T> mine = io;
    if (vb) mine.v_backgrounds = vb + j * channels;
    k.backward(in, mine, plan.jobs[j], scratch);
  });
  if (backgrounds) {  // in raster order of tiles
    T* out = v_backgrounds.mutable_data_ptr<T>();
    for (int64_t j = 0; j < n_jobs; ++j)
      for (int64_t c = 0; c < channels; ++c)
        out[plan.jobs[j].image * channels + c] += vb[j * channels + c];
  }

  T* vm = geometry ? v_means.mutable_data_ptr<T>() : nullptr;
  T* vq = geometry ? v_conics.mutable_data_ptr<T>() : nullptr;
  T* vo = geometry ? v_opacities.mutable_data_ptr<T>() : nullptr;
  T* vc = features ? v_colors.mutable_data_ptr<T>() : nullptr;
  T* va = absolute ? v_absolute.mutable_data_ptr<T>() : nullptr;
  const T* q = conics.const_data_ptr<T>();
  const T* o = opacities.const_data_ptr<T>();
  parallel_ranges(rows, 4096, 16, [&](int64_t begin, int64_t end) {
    std::vector<T> total(sums);
    for (int64_t r = begin; r < end; ++r) {
      std::fill(total.begin(), total.end(), T(0));
      for (int64_t s = range[r]; s < range[r + 1]; ++s) {
        const T* p = partials.data + s * stride;
        for (int64_t c = 0; c < sums; ++c) total[c] += p[c];
      }
      if (geometry) {
        const AlphaMoments<T> m{total[0], total[1], total[2], total[3], total[4], total[5]};
        const AlphaGrads<T> g = alpha_grads(m, q[3 * r], q[3 * r + 1], q[3 * r + 2], o[r]);
        vm[2 * r] = g.mean_x;
        vm[2 * r + 1] = g.mean_y;
        vq[3 * r] = g.conic_a;
        vq[3 * r + 1] = g.conic_b;
        vq[3 * r + 2] = g.conic_c;
        vo[r] = g.opacity;
      }
      if (features) std::memcpy(vc + r * channels, total.data() + 6, channels * sizeof(T));
      if (absolute)
        for (int k2 = 0; k2 < 2; ++k2)
          va[2 * r + k2] = std::abs(o[r]) * total[6 + channels + k2] / T(kLog2E);
    }
  });
  return {v_means, v_conics, v_colors, v_opacities, v_absolute, v_backgrounds};
}

ForwardResult rasterize_fwd(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                            const Tensor& opacities, const OptTensor& backgrounds,
                            const OptTensor&, const OptTensor& masks, const Tensor& isect_offsets,
                            const Tensor& flatten_ids, const OptTensor& tile_ids, int64_t width,
                            int64_t height, int64_t tile_size, bool stats) {
  const Tensor offsets = isect_offsets.contiguous(), ids = flatten_ids.contiguous();
  const Plan plan = make_plan(offsets, ids, contiguous(masks), contiguous(tile_ids), width,
                              height, tile_size);
  const Tensor m = means2d.contiguous(), q = conics.contiguous(), c = colors.contiguous(),
               o = opacities.contiguous();
  const OptTensor bg = contiguous(backgrounds);
  if (means2d.scalar_type() == at::kDouble)
    return forward<double>(m, q, c, o, bg, plan, ids, masks.has_value(), stats);
  return forward<float>(m, q, c, o, bg, plan, ids, masks.has_value(), stats);
}

BackwardResult rasterize_bwd(const Tensor& v_renders, const Tensor& v_alphas,
                             const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                             const Tensor& opacities, const OptTensor& backgrounds,
                             const OptTensor& masks, const Tensor& isect_offsets,
                             const Tensor& flatten_ids, const OptTensor& tile_ids,
                             const Tensor& final_t, const Tensor& last, const Tensor& hits,
                             int64_t width, int64_t height, int64_t tile_size, bool geometry,
                             bool features, bool absolute) {
  const Tensor offsets = isect_offsets.contiguous(), ids = flatten_ids.contiguous();
  const Plan plan = make_plan(offsets, ids, contiguous(masks), contiguous(tile_ids), width,
                              height, tile_size);
  const Tensor vr = v_renders.contiguous(), va = v_alphas.contiguous(), m = means2d.contiguous(),
               q = conics.contiguous(), c = colors.contiguous(), o = opacities.contiguous();
  const Tensor t = final_t.contiguous(), l = last.contiguous(), h = hits.contiguous();
  const OptTensor bg = contiguous(backgrounds);
  if (means2d.scalar_type() == at::kDouble)
    return backward<double>(vr, va, m, q, c, o, bg, plan, ids, t, l, h, geometry, features,
                            absolute);
  return backward<float>(vr, va, m, q, c, o, bg, plan, ids, t, l, h, geometry, features,
                         absolute);
}

}  // namespace
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("rasterize_fwd", &mmc::rasterize_fwd);
  m.impl("rasterize_bwd", &mmc::rasterize_bwd);
}
