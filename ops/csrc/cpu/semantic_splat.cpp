// Semantic splatting onto points on the CPU: points sorted into bricks of 8^3 cells, one lane per
// point. A thread owns the points of its bricks; a cell may hold any number of points.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "cpu/bricks.h"
#include "cpu/isa.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "math/splat.h"
#include "math/voxel.h"

namespace mmc {
namespace semantic_splat_cpu {  // several files may be compiled as one
namespace {

// Points inside the grid, ordered by (brick, cell, index).
struct SortedPoints {
  std::vector<int64_t> offsets;  // [bricks + 1]
  std::vector<int64_t> order;    // point indices
  std::vector<int32_t> cells;    // [order][3]
};

template <typename T>
SortedPoints sort_points(const T* xyz, int64_t n, const VoxelGrid<T>& g, const BrickShape& s) {
  SortedPoints out;
  out.offsets.assign(s.total + 1, 0);
  struct Placed {
    int64_t brick;
    int32_t cell[3];
  };
  std::vector<Placed> placed(n);
  for (int64_t i = 0; i < n; ++i) {
    Placed& p = placed[i];
    bool inside = true;
    for (int d = 0; d < 3 && inside; ++d) {
      const T x = xyz[3 * i + d];
      inside = x >= g.lo[d] && (x - g.lo[d]) / g.size[d] < T(g.dims[d]);
      if (inside) p.cell[d] = cell_of(x, g.lo[d], g.size[d]);
      inside = inside && p.cell[d] < g.dims[d];
    }
    p.brick = -1;
    if (!inside) continue;
    p.brick = (int64_t(p.cell[0] / s.edge[0]) * s.count[1] + p.cell[1] / s.edge[1]) * s.count[2] +
              p.cell[2] / s.edge[2];
    ++out.offsets[p.brick + 1];
  }
  for (int64_t b = 0; b < s.total; ++b) out.offsets[b + 1] += out.offsets[b];
  out.order.resize(out.offsets.back());
  std::vector<int64_t> next(out.offsets.begin(), out.offsets.end() - 1);
  for (int64_t i = 0; i < n; ++i)
    if (placed[i].brick >= 0) out.order[next[placed[i].brick]++] = i;
  parallel_ranges(s.total, 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      std::stable_sort(out.order.begin() + out.offsets[b], out.order.begin() + out.offsets[b + 1],
                       [&](int64_t i, int64_t j) {
                         return std::lexicographical_compare(placed[i].cell, placed[i].cell + 3,
                                                             placed[j].cell, placed[j].cell + 3);
                       });
    }
  });
  out.cells.resize(3 * out.order.size());
  for (size_t i = 0; i < out.order.size(); ++i)
    for (int d = 0; d < 3; ++d) out.cells[3 * i + d] = placed[out.order[i]].cell[d];
  return out;
}

template <typename T>
struct PointJob {
  const BoxedGaussian<T>* gaussians;
  const int32_t* entries;  // [n_entries]
  int64_t n_entries;
  const T* f;              // [Gaussians, cp]
  int64_t channels, cp;
  const T* points;         // [points, 3]
  const int64_t* order;    // [n_points]
  const int32_t* cells;    // [n_points, 3]
  int64_t n_points;
  bool probabilistic;
  T *logits, *complement, *density, *mass;       // [points, channels], then [points]
  const T *v_logits, *v_complement, *v_density;  // as of these
  T *partials, *scratch;                         // [n_entries, kMomentSlots + cp]
};

template <typename T>
struct PointScratch {
  T *e, *w, *dots, *y, *g, *gt;
  int32_t *rows, *slots;
  uint16_t* masks;

  static int64_t size(int64_t n, int64_t cp) {
    return n * 6 * kLanes + 2 * kLanes * cp +
           (2 * n * sizeof(int32_t) + n * sizeof(uint16_t)) / sizeof(T) + 64;
  }
  MMC_HD PointScratch(T* base, int64_t n, int64_t cp) {
    e = base;
    w = e + n * kLanes;
    dots = w + n * kLanes;
    y = dots + n * kLanes;  // [n][3][16]
    g = y + 3 * n * kLanes;
    gt = g + kLanes * cp;
    rows = reinterpret_cast<int32_t*>(gt + kLanes * cp);
    slots = rows + n;
    masks = reinterpret_cast<uint16_t*>(slots + n);
  }
};

template <typename T>
struct PointBlock {
  T x[kLanes], y[kLanes], z[kLanes];
  int32_t cx[kLanes], cy[kLanes], cz[kLanes];
  IndexBox bounds;
  int n;
};

template <typename T>
MMC_HD void load_block(const PointJob<T>& j, int64_t first, PointBlock<T>& b) {
  b.n = static_cast<int>(min_<int64_t>(kLanes, j.n_points - first));
  for (int d = 0; d < 3; ++d) {
    b.bounds.lo[d] = 1 << 30;
    b.bounds.hi[d] = -1;
  }
  for (int i = 0; i < kLanes; ++i) {
    if (i >= b.n) {  // a cell outside of every box
      b.x[i] = b.y[i] = b.z[i] = T(0);
      b.cx[i] = b.cy[i] = b.cz[i] = -1;
      continue;
    }
    const T* p = j.points + 3 * j.order[first + i];
    const int32_t* c = j.cells + 3 * (first + i);
    b.x[i] = p[0];
    b.y[i] = p[1];
    b.z[i] = p[2];
    b.cx[i] = c[0];
    b.cy[i] = c[1];
    b.cz[i] = c[2];
    for (int d = 0; d < 3; ++d) {
      b.bounds.lo[d] = min_(b.bounds.lo[d], c[d]);
      b.bounds.hi[d] = max_(b.bounds.hi[d], c[d]);
    }
  }
}

// Entries that act on at least one point of the block: e[16] each; returns their number.
template <typename T, bool backward>
MMC_HD int64_t fill_block(const PointJob<T>& j, const PointBlock<T>& b, const PointScratch<T>& s) {
  int64_t n = 0;
  for (int64_t k = 0; k < j.n_entries; ++k) {
    const BoxedGaussian<T>& g = j.gaussians[j.entries[k]];
    const IndexBox& box = g.box;
    bool apart = false;
    for (int d = 0; d < 3; ++d)
      apart |= box.lo[d] > b.bounds.hi[d] || box.hi[d] < b.bounds.lo[d];
    if (apart) continue;
    const T* w = g.white.w;
    T* e = s.e + n * kLanes;
    T* y = s.y + n * 3 * kLanes;
    int32_t acts[kLanes];
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      const T dx = b.x[i] - g.mean[0], dy = b.y[i] - g.mean[1], dz = b.z[i] - g.mean[2];
      const T y1 = w[0] * dx, y2 = w[1] * dx + w[2] * dy;
      const T y3 = w[3] * dx + w[4] * dy + w[5] * dz;
      const T value = exp_lane(-(y1 * y1 + y2 * y2 + y3 * y3));
      const int32_t in = (b.cx[i] >= box.lo[0]) & (b.cx[i] <= box.hi[0]) &
                         (b.cy[i] >= box.lo[1]) & (b.cy[i] <= box.hi[1]) &
                         (b.cz[i] >= box.lo[2]) & (b.cz[i] <= box.hi[2]);
      acts[i] = in;
      e[i] = in ? value : T(0);
      if (backward) {
        y[i] = y1;
        y[i + kLanes] = y2;
        y[i + 2 * kLanes] = y3;
      }
    }
    unsigned mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= unsigned(acts[i]) << i;
    if (!mask) continue;
    s.rows[n] = j.entries[k];
    s.slots[n] = static_cast<int32_t>(k);
    s.masks[n++] = static_cast<uint16_t>(mask);
  }
  return n;
}

template <typename T>
struct ForwardPoints {
  static MMC_HD void run(PointJob<T> j) {
    const PointScratch<T> s(j.scratch, j.n_entries, j.cp);
    for (int64_t first = 0; first < j.n_points; first += kLanes) {
      PointBlock<T> b;
      load_block(j, first, b);
      const int64_t n = fill_block<T, false>(j, b, s);
      T mass[kLanes], density[kLanes], complement[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        mass[i] = density[i] = T(0);
        complement[i] = T(1);
      }
      for (int64_t k = 0; k < n; ++k) {
        const T amp = j.gaussians[s.rows[k]].amp;
        const T* e = s.e + k * kLanes;
        T* w = s.w + k * kLanes;
#pragma omp simd
        for (int i = 0; i < kLanes; ++i) {
          w[i] = amp * e[i];
          mass[i] += w[i];
          density[i] += e[i];
          complement[i] *= miss_probability(e[i]);
        }
      }
      outer_sum(s.w, s.rows, s.masks, n, j.f, j.cp, s.g);
      for (int i = 0; i < b.n; ++i) {
        const int64_t at = j.order[first + i];
        T* row = j.logits + at * j.channels;
        const T* sum = s.g + i * j.cp;
        if (!j.probabilistic) {
          for (int64_t c = 0; c < j.channels; ++c) row[c] = sum[c];
          continue;
        }
        j.mass[at] = mass[i];
        j.density[at] = density[i];
        j.complement[at] = complement[i];
        const T scale = mixture_scale(mass[i]);
        if (scale > T(0))
          for (int64_t c = 0; c < j.channels; ++c) row[c] = sum[c] * scale;
      }
    }
  }
};

template <typename T>
struct BackwardPoints {
  static MMC_HD void run(PointJob<T> j) {
    const PointScratch<T> s(j.scratch, j.n_entries, j.cp);
    const int64_t width = kMomentSlots + j.cp;
    for (int64_t i = 0; i < 2 * kLanes * j.cp; ++i) s.g[i] = T(0);
    for (int64_t first = 0; first < j.n_points; first += kLanes) {
      PointBlock<T> b;
      load_block(j, first, b);
      const int64_t n = fill_block<T, true>(j, b, s);
      if (n == 0) continue;
      T own[kLanes], v_density[kLanes], v_product[kLanes];
      for (int i = 0; i < kLanes; ++i) own[i] = v_density[i] = v_product[i] = T(0);
      for (int i = 0; i < b.n; ++i) {
        const int64_t at = j.order[first + i];
        const T* gl = j.v_logits + at * j.channels;
        T scale = T(1), product = T(0);
        if (j.probabilistic) {
          scale = mixture_scale(j.mass[at]);
          v_density[i] = j.v_density[at];
          v_product[i] = j.v_complement[at] * j.complement[at];
          const T* l = j.logits + at * j.channels;
          for (int64_t c = 0; c < j.channels; ++c) product += gl[c] * l[c];
          own[i] = -product * scale;
        }
        for (int64_t c = 0; c < j.channels; ++c) {
          s.g[i * j.cp + c] = gl[c] * scale;
          s.gt[c * kLanes + i] = gl[c] * scale;
        }
      }
      dot_lanes(s.rows, n, j.f, j.cp, j.channels, s.gt, s.dots);
      for (int64_t k = 0; k < n; ++k) {
        const T amp = j.gaussians[s.rows[k]].amp;
        const T *e = s.e + k * kLanes, *dots = s.dots + k * kLanes;
        const T *y1 = s.y + 3 * k * kLanes, *y2 = y1 + kLanes, *y3 = y2 + kLanes;
        T sums[kMoments][kLanes], w[kLanes];
#pragma omp simd
        for (int i = 0; i < kLanes; ++i) {
          const T by_weight = own[i] + dots[i];
          const T by_e = amp * by_weight + v_density[i] -
                         v_product[i] / miss_probability(e[i]);
          const T t = e[i] * by_e;
          w[i] = amp * e[i];
          sums[kAmp][i] = e[i] * by_weight;
          sums[kTy][i] = t * y1[i];
          sums[kTy + 1][i] = t * y2[i];
          sums[kTy + 2][i] = t * y3[i];
          sums[kTyy][i] = t * y1[i] * y1[i];
          sums[kTyy + 1][i] = t * y1[i] * y2[i];
          sums[kTyy + 2][i] = t * y2[i] * y2[i];
          sums[kTyy + 3][i] = t * y1[i] * y3[i];
          sums[kTyy + 4][i] = t * y2[i] * y3[i];
          sums[kTyy + 5][i] = t * y3[i] * y3[i];
        }
        T* part = j.partials + s.slots[k] * width;
        for (int q = 0; q < kMoments; ++q) part[q] += sum_lanes(sums[q]);
        lane_sum(w, s.masks[k], s.g, j.cp, part + kMomentSlots);
      }
    }
  }
};

template <typename T>
std::vector<BoxedGaussian<T>> box_cells(const T* means, const T* precis, const T* amps,
                                        const int32_t* radii, int64_t n, const VoxelGrid<T>& grid,
                                        std::vector<Whitening<double>>* white) {
  std::vector<BoxedGaussian<T>> out(n);
  if (white) white->resize(n);
  parallel_ranges(n, 1024, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      BoxedGaussian<T>& g = out[i];
      for (int d = 0; d < 3; ++d) g.mean[d] = means[3 * i + d];
      g.amp = amps[i];
      g.box = radii[i] < 0 ? empty_box() : cell_box(g.mean, radii[i], grid);
      double wide[9];
      for (int c = 0; c < 9; ++c) wide[c] = static_cast<double>(precis[9 * i + c]);
      const Whitening<double> w = whiten_precision(wide);
      for (int c = 0; c < 6; ++c) g.white.w[c] = static_cast<T>(w.w[c]);
      if (white) (*white)[i] = w;
    }
  });
  return out;
}

template <typename T, typename F>
void for_each_point_job(PointJob<T> job, const SortedPoints& points, const BrickLists& lists,
                        const F& f) {
  const int64_t total = static_cast<int64_t>(points.offsets.size()) - 1;
#pragma omp parallel for schedule(dynamic, 4) num_threads(thread_count(total, 4))
  for (int64_t brick = 0; brick < total; ++brick) {
    PointJob<T> j = job;
    j.order = points.order.data() + points.offsets[brick];
    j.cells = points.cells.data() + 3 * points.offsets[brick];
    j.n_points = points.offsets[brick + 1] - points.offsets[brick];
    j.entries = lists.entries.data() + lists.offsets[brick];
    j.n_entries = lists.offsets[brick + 1] - lists.offsets[brick];
    if (j.n_points == 0 || j.n_entries == 0) continue;
    static thread_local std::vector<T> scratch;
    scratch.resize(
        std::max<size_t>(scratch.size(), PointScratch<T>::size(j.n_entries, j.cp)));
    j.scratch = scratch.data();
    f(brick, j);
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> splat_fwd(
    const at::Tensor& points, const at::Tensor& means, const at::Tensor& precis,
    const at::Tensor& amps, const at::Tensor& semantics, const at::Tensor& radii,
    at::ArrayRef<double> range, at::ArrayRef<double> size, at::IntArrayRef shape,
    bool probabilistic) {
  const at::Tensor x = points.contiguous(), m = means.contiguous(), p = precis.contiguous();
  const at::Tensor a = amps.contiguous(), f = semantics.contiguous(), r = radii.contiguous();
  const int64_t n = m.size(0), channels = f.size(1), n_points = x.size(0);
  const int64_t scalars = probabilistic ? n_points : 0;
  at::Tensor logits = at::zeros({n_points, channels}, m.options());
  at::Tensor complement = at::ones({scalars}, m.options());
  at::Tensor density = at::zeros({scalars}, m.options()), mass = at::zeros({scalars}, m.options());
  if (probabilistic && channels > 1) logits.narrow(1, 0, channels - 1).fill_(1.0 / (channels - 1));
  AT_DISPATCH_FLOATING_TYPES(m.scalar_type(), "semantic_splat_fwd", [&] {
    using T = scalar_t;
    const VoxelGrid<T> grid = make_grid<T>(range, size, shape);
    const BrickShape bricks(grid.dims, 8, 8, 8);
    const auto gaussians =
        box_cells<T>(m.const_data_ptr<T>(), p.const_data_ptr<T>(), a.const_data_ptr<T>(),
                     r.const_data_ptr<int32_t>(), n, grid, nullptr);
    const BrickLists lists = list_bricks(gaussians, 1, n, bricks, false);
    const SortedPoints sorted = sort_points(x.const_data_ptr<T>(), n_points, grid, bricks);
    const int64_t cp = padded(channels);
    const auto rows = pad_channels(f.const_data_ptr<T>(), n, channels, cp);
    PointJob<T> job{};
    job.gaussians = gaussians.data();
    job.f = rows.data();
    job.channels = channels;
    job.cp = cp;
    job.points = x.const_data_ptr<T>();
    job.probabilistic = probabilistic;
    job.logits = logits.data_ptr<T>();
    job.complement = complement.data_ptr<T>();
    job.density = density.data_ptr<T>();
    job.mass = mass.data_ptr<T>();
    for_each_point_job(job, sorted, lists,
                       [](int64_t, const PointJob<T>& j) { dispatch<ForwardPoints<T>>(j); });
  });
  return {logits, complement, density, mass};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> splat_bwd(
    const at::Tensor& v_logits, const at::Tensor& v_complement, const at::Tensor& v_density,
    const at::Tensor& points, const at::Tensor& means, const at::Tensor& precis,
    const at::Tensor& amps, const at::Tensor& semantics, const at::Tensor& radii,
    const at::Tensor& logits, const at::Tensor& complement, const at::Tensor& mass,
    at::ArrayRef<double> range, at::ArrayRef<double> size, at::IntArrayRef shape,
    bool probabilistic) {
  const at::Tensor x = points.contiguous(), m = means.contiguous(), p = precis.contiguous();
  const at::Tensor a = amps.contiguous(), f = semantics.contiguous(), r = radii.contiguous();
  const at::Tensor gl = v_logits.contiguous(), gc = v_complement.contiguous();
  const at::Tensor gd = v_density.contiguous(), l = logits.contiguous();
  const at::Tensor co = complement.contiguous(), ma = mass.contiguous();
  const int64_t n = m.size(0), channels = f.size(1);
  at::Tensor v_means = at::empty_like(m), v_precis = at::empty_like(p);
  at::Tensor v_amps = at::empty_like(a), v_semantics = at::empty_like(f);
  AT_DISPATCH_FLOATING_TYPES(m.scalar_type(), "semantic_splat_bwd", [&] {
    using T = scalar_t;
    const VoxelGrid<T> grid = make_grid<T>(range, size, shape);
    const BrickShape bricks(grid.dims, 8, 8, 8);
    std::vector<Whitening<double>> white;
    const auto gaussians =
        box_cells<T>(m.const_data_ptr<T>(), p.const_data_ptr<T>(), a.const_data_ptr<T>(),
                     r.const_data_ptr<int32_t>(), n, grid, &white);
    const BrickLists lists = list_bricks(gaussians, 1, n, bricks, true);
    const SortedPoints sorted = sort_points(x.const_data_ptr<T>(), x.size(0), grid, bricks);
    const int64_t cp = padded(channels), width = kMomentSlots + cp;
    const auto rows = pad_channels(f.const_data_ptr<T>(), n, channels, cp);
    std::vector<T> partials(lists.entries.size() * width, T(0));
    PointJob<T> job{};
    job.gaussians = gaussians.data();
    job.f = rows.data();
    job.channels = channels;
    job.cp = cp;
    job.points = x.const_data_ptr<T>();
    job.probabilistic = probabilistic;
    job.logits = const_cast<T*>(l.const_data_ptr<T>());
    job.complement = const_cast<T*>(co.const_data_ptr<T>());
    job.mass = const_cast<T*>(ma.const_data_ptr<T>());
    job.v_logits = gl.const_data_ptr<T>();
    job.v_complement = gc.const_data_ptr<T>();
    job.v_density = gd.const_data_ptr<T>();
    for_each_point_job(job, sorted, lists, [&](int64_t brick, PointJob<T>& j) {
      j.partials = partials.data() + lists.offsets[brick] * width;
      dispatch<BackwardPoints<T>>(j);
    });
    write_gradients(
        lists, partials, channels, white,
        [](const auto& m, const auto& w, double* out) { precision_vjp(m, w, out); },
        v_means.data_ptr<T>(), v_precis.data_ptr<T>(), v_amps.data_ptr<T>(),
        v_semantics.data_ptr<T>());
  });
  return {v_means, v_precis, v_amps, v_semantics};
}

}  // namespace
}  // namespace semantic_splat_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("semantic_splat_fwd", &mmc::semantic_splat_cpu::splat_fwd);
  m.impl("semantic_splat_bwd", &mmc::semantic_splat_cpu::splat_bwd);
}
