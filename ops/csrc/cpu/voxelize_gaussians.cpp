// Gaussians to voxels on the CPU: bricks of 8 x 8 columns and 16 cells in z, one lane per cell.
// A thread owns the voxels of its bricks, so nothing is shared and sums run in index order.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <vector>

#include "cpu/bricks.h"
#include "cpu/isa.h"
#include "cpu/lanes.h"
#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "math/voxel.h"

namespace mmc {
namespace voxelize_gaussians_cpu {  // several files may be compiled as one
namespace {

constexpr double kNegligible = 80;  // exp(-80) = 2e-35 adds nothing to any sum
constexpr int kEdge = 8;            // columns of a brick along x and along y

template <typename T>
struct Job {
  const BoxedGaussian<T>* gaussians;
  const int32_t* entries;
  int64_t n_entries;
  const T* f;  // [all Gaussians][cp]
  int64_t channels, cp;
  VoxelGrid<T> grid;
  int32_t x0, x1, y0, y1, z0, z1;  // voxels of the brick
  int64_t voxel0;                  // first voxel of the sample
  T eps;
  bool normalize;
  T *density, *out;             // forward: written; backward: read
  const T *v_density, *v_out;   // backward
  T* partials;                  // backward: [n_entries][kMomentSlots + cp]
  T* scratch;
};

// Per entry of a column: e[16], its row, mask and whitened coordinates. `columns` lists, for each
// of the kEdge columns of a plane, the entries that cover it; `picked` lists, for each group of
// four cells of a column, the entries that reach it.
template <typename T>
struct ColumnScratch {
  T *e, *dots, *y1, *y2, *y3, *g, *gt;
  int32_t *rows, *slots, *active, *columns, *picked;
  uint16_t* masks;

  static int64_t size(int64_t n, int64_t cp) {
    constexpr int64_t lists = 3 + kEdge + kLanes / kGroup;
    return n * (3 * kLanes + 2) + 2 * kLanes * cp +
           n * int64_t(lists * sizeof(int32_t) + sizeof(uint16_t)) / int64_t(sizeof(T)) + 64;
  }
  MMC_HD ColumnScratch(T* base, int64_t n, int64_t cp) {
    e = base;
    dots = e + n * kLanes;
    y3 = dots + n * kLanes;
    g = y3 + n * kLanes;
    gt = g + kLanes * cp;
    y1 = gt + kLanes * cp;
    y2 = y1 + n;
    rows = reinterpret_cast<int32_t*>(y2 + n);
    slots = rows + n;
    active = slots + n;
    columns = active + n;
    picked = columns + kEdge * n;
    masks = reinterpret_cast<uint16_t*>(picked + kLanes / kGroup * n);
  }
};

// Lists the entries whose box covers the plane x, by column. The loops have no branch that
// depends on an entry: half of the entries miss, and a wrong guess costs more than the work.
template <typename T>
MMC_HD void fill_plane(const Job<T>& j, int32_t x, const ColumnScratch<T>& s, int32_t* counts) {
  int64_t n = 0;
  for (int64_t k = 0; k < j.n_entries; ++k) {
    const IndexBox& box = j.gaussians[j.entries[k]].box;
    s.active[n] = static_cast<int32_t>(k);
    n += int(box.lo[0] <= x) & int(x <= box.hi[0]);
  }
  for (int c = 0; c < kEdge; ++c) counts[c] = 0;
  for (int64_t a = 0; a < n; ++a) {
    const int32_t k = s.active[a];
    const IndexBox& box = j.gaussians[j.entries[k]].box;
    const int32_t lo = box.lo[1] - j.y0, hi = box.hi[1] - j.y0;
    MMC_UNROLL for (int c = 0; c < kEdge; ++c) {
      s.columns[c * j.n_entries + counts[c]] = k;
      counts[c] += int(lo <= c) & int(c <= hi);
    }
  }
}

// The entries of one column with their values at its cells; returns their number. Forward also
// sums the values and lists the entries of each group of cells.
template <typename T, bool backward>
MMC_HD int64_t fill_column(const Job<T>& j, int32_t x, int32_t y, const int32_t* list,
                           int32_t count, const ColumnScratch<T>& s, T* sum, int32_t* group_n) {
  const T cx = j.grid.centre(0, x), cy = j.grid.centre(1, y);
  T cz[kLanes];
  for (int i = 0; i < kLanes; ++i) cz[i] = j.grid.centre(2, j.z0 + i);
  int64_t n = 0;
  for (int32_t a = 0; a < count; ++a) {
    const int32_t k = list[a];
    const BoxedGaussian<T>& g = j.gaussians[j.entries[k]];
    const T dx = cx - g.mean[0], dy = cy - g.mean[1], mz = g.mean[2];
    const T* w = g.white.w;
    const T y1 = w[0] * dx, y2 = w[1] * dx + w[2] * dy, base = w[3] * dx + w[4] * dy;
    const T flat = y1 * y1 + y2 * y2;
    if (flat > T(kNegligible)) continue;
    const int first = max_(g.box.lo[2] - j.z0, 0);
    const int last = min_(g.box.hi[2] - j.z0, kLanes - 1);
    const T amp = backward ? T(1) : g.amp, w33 = w[5];
    T* e = s.e + n * kLanes;
    T* y3 = s.y3 + n * kLanes;
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      const T third = base + w33 * (cz[i] - mz);
      const T value = amp * exp_lane(-(flat + third * third));
      const T kept = i >= first && i <= last ? value : T(0);
      e[i] = kept;
      if (backward)
        y3[i] = third;
      else
        sum[i] += kept;
    }
    s.rows[n] = j.entries[k];
    if (backward) {
      s.masks[n] = static_cast<uint16_t>(((2u << last) - 1u) & ~((1u << first) - 1u));
      s.slots[n] = k;
      s.y1[n] = y1;
      s.y2[n] = y2;
    } else {
      MMC_UNROLL for (int q = 0; q < kLanes / kGroup; ++q) {
        s.picked[q * j.n_entries + group_n[q]] = static_cast<int32_t>(n);
        group_n[q] += int(first / kGroup <= q) & int(q <= last / kGroup);
      }
    }
    ++n;
  }
  return n;
}

template <typename T>
struct ForwardBrick {
  static MMC_HD void run(Job<T> j) {
    const ColumnScratch<T> s(j.scratch, j.n_entries, j.cp);
    const int64_t cells = j.z1 - j.z0, values = cells * j.channels;
    int32_t counts[kEdge];
    for (int32_t x = j.x0; x < j.x1; ++x) {
      fill_plane(j, x, s, counts);
      for (int32_t y = j.y0; y < j.y1; ++y) {
        const int64_t voxel =
            j.voxel0 + (int64_t(x) * j.grid.dims[1] + y) * j.grid.dims[2] + j.z0;
        T* density = j.density + voxel;
        T* out = j.out + voxel * j.channels;
        T sum[kLanes], scale[kLanes];
        int32_t group_n[kLanes / kGroup];
        for (int i = 0; i < kLanes; ++i) sum[i] = T(0);
        for (int q = 0; q < kLanes / kGroup; ++q) group_n[q] = 0;
        const int32_t* list = s.columns + (y - j.y0) * j.n_entries;
        const int64_t n =
            fill_column<T, false>(j, x, y, list, counts[y - j.y0], s, sum, group_n);
        for (int64_t i = 0; i < cells; ++i) density[i] = sum[i];
        if (n == 0) {
          for (int64_t i = 0; i < values; ++i) out[i] = T(0);
          continue;
        }
#pragma omp simd
        for (int i = 0; i < kLanes; ++i) scale[i] = feature_scale(sum[i], j.eps, j.normalize);
        // Upwards in cells and downwards in channels: a vector that runs over the end of a
        // cell is overwritten by the next one.
        for (int q = 0; q * kGroup < cells; ++q)
          scaled_sums(s.e + q * kGroup, s.rows, s.picked + q * j.n_entries, group_n[q], j.f, j.cp,
                      scale + q * kGroup, min_<int64_t>(kGroup, cells - q * kGroup),
                      j.channels, values - q * kGroup * j.channels,
                      out + q * kGroup * j.channels);
      }
    }
  }
};

template <typename T>
struct BackwardBrick {
  static MMC_HD void run(Job<T> j) {
    const ColumnScratch<T> s(j.scratch, j.n_entries, j.cp);
    const int64_t cells = j.z1 - j.z0, width = kMomentSlots + j.cp;
    for (int64_t i = 0; i < 2 * kLanes * j.cp; ++i) s.g[i] = T(0);
    int32_t counts[kEdge];
    for (int32_t x = j.x0; x < j.x1; ++x) {
      fill_plane(j, x, s, counts);
      for (int32_t y = j.y0; y < j.y1; ++y) {
        const int32_t* list = s.columns + (y - j.y0) * j.n_entries;
        const int64_t n =
            fill_column<T, true>(j, x, y, list, counts[y - j.y0], s, nullptr, nullptr);
        if (n == 0) continue;
        const int64_t voxel =
            j.voxel0 + (int64_t(x) * j.grid.dims[1] + y) * j.grid.dims[2] + j.z0;
        T own[kLanes];  // gradient of the weight that every Gaussian shares
        for (int i = 0; i < kLanes; ++i) own[i] = T(0);
        for (int64_t i = 0; i < cells; ++i) {
          const T density = j.density[voxel + i];
          const T scale = feature_scale(density, j.eps, j.normalize);
          const T* gf = j.v_out + (voxel + i) * j.channels;
          const T* f = j.out + (voxel + i) * j.channels;
          T product = T(0);
          for (int64_t c = 0; c < j.channels; ++c) {
            s.g[i * j.cp + c] = gf[c] * scale;
            s.gt[c * kLanes + i] = gf[c] * scale;
            product += gf[c] * f[c];
          }
          own[i] = j.v_density[voxel + i];
          if (divides_by_density(density, j.eps, j.normalize)) own[i] -= product * scale;
        }
        dot_lanes(s.rows, n, j.f, j.cp, j.channels, s.gt, s.dots);
        for (int64_t k = 0; k < n; ++k) add_entry(j, s, k, own, width);
      }
    }
  }

  static MMC_HD void add_entry(const Job<T>& j, const ColumnScratch<T>& s, int64_t k,
                               const T* own, int64_t width) {
    T* part = j.partials + s.slots[k] * width;
    const T amp = j.gaussians[s.rows[k]].amp;
    T* e = s.e + k * kLanes;
    const T* y3 = s.y3 + k * kLanes;
    const T* dots = s.dots + k * kLanes;
    T eu[kLanes], t3[kLanes], t33[kLanes], w[kLanes];
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      const T value = e[i] * (own[i] + dots[i]);
      eu[i] = value;
      t3[i] = value * y3[i];
      t33[i] = value * y3[i] * y3[i];
      w[i] = amp * e[i];
    }
    const T sum = sum_lanes(eu), s0 = amp * sum;
    const T s1 = amp * sum_lanes(t3), s2 = amp * sum_lanes(t33);
    const T y1 = s.y1[k], y2 = s.y2[k];
    part[kAmp] += sum;
    part[kTy] += y1 * s0;
    part[kTy + 1] += y2 * s0;
    part[kTy + 2] += s1;
    part[kTyy] += y1 * y1 * s0;
    part[kTyy + 1] += y1 * y2 * s0;
    part[kTyy + 2] += y2 * y2 * s0;
    part[kTyy + 3] += y1 * s1;
    part[kTyy + 4] += y2 * s1;
    part[kTyy + 5] += s2;
    if (j.channels) lane_sum(w, s.masks[k], s.g, j.cp, part + kMomentSlots);
  }
};

// The whitening is computed in double: a float32 covariance of a needle is nearly singular.
template <typename T>
std::vector<BoxedGaussian<T>> box_gaussians(const T* means, const T* covars, const T* opacities,
                                            int64_t n, const VoxelGrid<T>& grid, T extent,
                                            std::vector<Whitening<double>>* white) {
  std::vector<BoxedGaussian<T>> out(n);
  if (white) white->resize(n);
  parallel_ranges(n, 1024, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      BoxedGaussian<T>& g = out[i];
      const T* s = covars + 9 * i;
      for (int d = 0; d < 3; ++d) g.mean[d] = means[3 * i + d];
      g.amp = opacities[i];
      const T variances[3] = {s[0], s[4], s[8]};
      g.box = gaussian_box(g.mean, variances, extent, grid);
      double wide[9];
      for (int c = 0; c < 9; ++c) wide[c] = static_cast<double>(s[c]);
      const Whitening<double> w = whiten_covariance(wide);
      for (int c = 0; c < 6; ++c) g.white.w[c] = static_cast<T>(w.w[c]);
      if (white) (*white)[i] = w;
    }
  });
  return out;
}

// f(brick, job without scratch and partials) for all bricks, any order, any thread.
template <typename T, typename F>
void for_each_job(Job<T> job, int64_t batch, const BrickShape& shape, const BrickLists& lists,
                  const F& f) {
  const int64_t total = batch * shape.total;
  const int64_t volume =
      int64_t(job.grid.dims[0]) * job.grid.dims[1] * job.grid.dims[2];
#pragma omp parallel for schedule(dynamic, 4) num_threads(thread_count(total, 4))
  for (int64_t brick = 0; brick < total; ++brick) {
    Job<T> j = job;
    const int64_t b = brick % shape.total;
    const int32_t bz = static_cast<int32_t>(b % shape.count[2]);
    const int32_t by = static_cast<int32_t>(b / shape.count[2] % shape.count[1]);
    const int32_t bx = static_cast<int32_t>(b / shape.count[2] / shape.count[1]);
    j.x0 = bx * shape.edge[0];
    j.y0 = by * shape.edge[1];
    j.z0 = bz * shape.edge[2];
    j.x1 = std::min(j.x0 + shape.edge[0], j.grid.dims[0]);
    j.y1 = std::min(j.y0 + shape.edge[1], j.grid.dims[1]);
    j.z1 = std::min(j.z0 + shape.edge[2], j.grid.dims[2]);
    j.voxel0 = brick / shape.total * volume;
    j.entries = lists.entries.data() + lists.offsets[brick];
    j.n_entries = lists.offsets[brick + 1] - lists.offsets[brick];
    f(brick, j);
  }
}

std::tuple<at::Tensor, at::Tensor> voxels_fwd(
    const at::Tensor& means, const at::Tensor& covars, const at::Tensor& opacities,
    const at::Tensor& features, at::ArrayRef<double> range, at::ArrayRef<double> size,
    at::IntArrayRef shape, double extent, double eps, bool normalize) {
  const at::Tensor m = means.contiguous(), s = covars.contiguous(), o = opacities.contiguous();
  const at::Tensor f = features.contiguous();
  const int64_t batch = m.size(0), n = m.size(1), channels = f.size(2);
  at::Tensor density = empty_large({batch, shape[0], shape[1], shape[2]}, m.options());
  at::Tensor out = empty_large({batch, shape[0], shape[1], shape[2], channels}, m.options());
  AT_DISPATCH_FLOATING_TYPES(m.scalar_type(), "gaussians_to_voxels_fwd", [&] {
    using T = scalar_t;
    const VoxelGrid<T> grid = make_grid<T>(range, size, shape);
    const auto gaussians = box_gaussians<T>(m.const_data_ptr<T>(), s.const_data_ptr<T>(),
                                            o.const_data_ptr<T>(), batch * n, grid,
                                            static_cast<T>(extent), nullptr);
    const BrickShape bricks(grid.dims, kEdge, kEdge, kLanes);
    const BrickLists lists = list_bricks(gaussians, batch, n, bricks, false);
    const int64_t cp = padded(channels);
    const auto rows = pad_channels(f.const_data_ptr<T>(), batch * n, channels, cp);
    Job<T> job{};
    job.gaussians = gaussians.data();
    job.f = rows.data();
    job.channels = channels;
    job.cp = cp;
    job.grid = grid;
    job.eps = static_cast<T>(eps);
    job.normalize = normalize;
    job.density = density.data_ptr<T>();
    job.out = out.data_ptr<T>();
    for_each_job(job, batch, bricks, lists, [&](int64_t, Job<T>& j) {
      static thread_local std::vector<T> scratch;
      scratch.resize(std::max<size_t>(scratch.size(), ColumnScratch<T>::size(j.n_entries, cp)));
      j.scratch = scratch.data();
      dispatch<ForwardBrick<T>>(j);
    });
  });
  return {density, out};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> voxels_bwd(
    const at::Tensor& v_density, const at::Tensor& v_out, const at::Tensor& means,
    const at::Tensor& covars, const at::Tensor& opacities, const at::Tensor& features,
    const at::Tensor& density, const at::Tensor& out, at::ArrayRef<double> range,
    at::ArrayRef<double> size, at::IntArrayRef shape, double extent, double eps,
    bool normalize) {
  const at::Tensor m = means.contiguous(), s = covars.contiguous(), o = opacities.contiguous();
  const at::Tensor f = features.contiguous(), gd = v_density.contiguous();
  const at::Tensor gf = v_out.contiguous(), d = density.contiguous(), of = out.contiguous();
  const int64_t batch = m.size(0), n = m.size(1), channels = f.size(2);
  at::Tensor v_means = at::empty_like(m), v_covars = at::empty_like(s);
  at::Tensor v_opacities = at::empty_like(o), v_features = at::empty_like(f);
  AT_DISPATCH_FLOATING_TYPES(m.scalar_type(), "gaussians_to_voxels_bwd", [&] {
    using T = scalar_t;
    const VoxelGrid<T> grid = make_grid<T>(range, size, shape);
    std::vector<Whitening<double>> white;
    const auto gaussians = box_gaussians<T>(m.const_data_ptr<T>(), s.const_data_ptr<T>(),
                                            o.const_data_ptr<T>(), batch * n, grid,
                                            static_cast<T>(extent), &white);
    const BrickShape bricks(grid.dims, kEdge, kEdge, kLanes);
    const BrickLists lists = list_bricks(gaussians, batch, n, bricks, true);
    const int64_t cp = padded(channels), width = kMomentSlots + cp;
    const auto rows = pad_channels(f.const_data_ptr<T>(), batch * n, channels, cp);
    std::vector<T> partials(lists.entries.size() * width, T(0));
    Job<T> job{};
    job.gaussians = gaussians.data();
    job.f = rows.data();
    job.channels = channels;
    job.cp = cp;
    job.grid = grid;
    job.eps = static_cast<T>(eps);
    job.normalize = normalize;
    job.density = const_cast<T*>(d.const_data_ptr<T>());
    job.out = const_cast<T*>(of.const_data_ptr<T>());
    job.v_density = gd.const_data_ptr<T>();
    job.v_out = gf.const_data_ptr<T>();
    for_each_job(job, batch, bricks, lists, [&](int64_t brick, Job<T>& j) {
      if (j.n_entries == 0) return;
      static thread_local std::vector<T> scratch;
      scratch.resize(std::max<size_t>(scratch.size(), ColumnScratch<T>::size(j.n_entries, cp)));
      j.scratch = scratch.data();
      j.partials = partials.data() + lists.offsets[brick] * width;
      dispatch<BackwardBrick<T>>(j);
    });
    write_gradients(
        lists, partials, channels, white,
        [](const auto& m, const auto& w, double* out) { covariance_vjp(m, w, out); },
        v_means.data_ptr<T>(), v_covars.data_ptr<T>(), v_opacities.data_ptr<T>(),
        v_features.data_ptr<T>());
  });
  return {v_means, v_covars, v_opacities, v_features};
}

}  // namespace
}  // namespace voxelize_gaussians_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("gaussians_to_voxels_fwd", &mmc::voxelize_gaussians_cpu::voxels_fwd);
  m.impl("gaussians_to_voxels_bwd", &mmc::voxelize_gaussians_cpu::voxels_bwd);
}
