// Fused SSIM on the CPU: separable window over tiles, one pass for all moments.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "math/ssim.h"

namespace mmc {
namespace ssim_cpu {  // several files may be compiled as one
namespace {

constexpr int64_t kTileRows = 64, kTileCols = 512, kHalo = kSsimRadius, kTaps = 11;
constexpr int64_t kPitch = kTileCols + 2 * kHalo + 6;  // multiple of 16

// One tile of one plane. Scratch: `wide` holds K padded rows, `ring` the last 11 blurred rows.
template <typename T, int K>
struct Rolling {
  T* wide;  // [K][kPitch]
  T* ring;  // [11][K][kTileCols]
  int64_t cols;

  MMC_HD T* slot(int64_t row) const { return ring + (row % kTaps) * K * kTileCols; }

  MMC_HD void blur_row(int64_t row) const {
    T* out = slot(row);
    for (int k = 0; k < K; ++k) {
      const T* in = wide + k * kPitch;
      T* o = out + k * kTileCols;
#pragma omp simd
      for (int64_t x = 0; x < cols; ++x) {
        T sum = SsimWindow<T>::taps[5] * in[x + 5];
        sum += SsimWindow<T>::taps[4] * (in[x + 4] + in[x + 6]);
        sum += SsimWindow<T>::taps[3] * (in[x + 3] + in[x + 7]);
        sum += SsimWindow<T>::taps[2] * (in[x + 2] + in[x + 8]);
        sum += SsimWindow<T>::taps[1] * (in[x + 1] + in[x + 9]);
        sum += SsimWindow<T>::taps[0] * (in[x] + in[x + 10]);
        o[x] = sum;
      }
    }
  }

  MMC_HD void fill_row(int64_t row, const T* values) const {  // values [K]
    for (int k = 0; k < K; ++k) std::fill_n(slot(row) + k * kTileCols, kTileCols, values[k]);
  }

  // Rows newest-10 .. newest of the ring, weighted: map k of the row newest-5.
  MMC_HD void column_sum(int64_t newest, int k, T* out) const {
    const T* r[kTaps];
    for (int64_t i = 0; i < kTaps; ++i) r[i] = slot(newest + 1 + i) + k * kTileCols;
#pragma omp simd
    for (int64_t x = 0; x < cols; ++x) {
      T sum = SsimWindow<T>::taps[5] * r[5][x];
      sum += SsimWindow<T>::taps[4] * (r[4][x] + r[6][x]);
      sum += SsimWindow<T>::taps[3] * (r[3][x] + r[7][x]);
      sum += SsimWindow<T>::taps[2] * (r[2][x] + r[8][x]);
      sum += SsimWindow<T>::taps[1] * (r[1][x] + r[9][x]);
      sum += SsimWindow<T>::taps[0] * (r[0][x] + r[10][x]);
      out[x] = sum;
    }
  }
};

struct Tile {
  int64_t height, width, y0, y1, x0, x1;
};

template <typename T>
struct ForwardArgs {
  const T *img1, *img2;  // [height, width], one plane
  T center1, center2;
  T* map;                // [height, width]
  T* partials;     // plane of the first partial map, or null
  int64_t stride;  // between partial maps
  int n_partials;
  T* scratch;
};

template <typename T>
constexpr int64_t forward_scratch() {
  return kSsimMeans * (kPitch + (kTaps + 1) * kTileCols);
}

template <typename T>
struct ForwardTile {
  static MMC_HD void run(ForwardArgs<T> a, Tile t) {
    const Rolling<T, kSsimMeans> roll{a.scratch, a.scratch + kSsimMeans * kPitch, t.x1 - t.x0};
    T* moments = roll.ring + kTaps * kSsimMeans * kTileCols;
    const int64_t cols = t.x1 - t.x0;
    // columns of the padded row that lie inside the image
    const int64_t first = max_<int64_t>(0, kHalo - t.x0);
    const int64_t last = min_<int64_t>(cols + 2 * kHalo, t.width - t.x0 + kHalo);
    const T c1 = a.center1, c2 = a.center2;
    const T outside[kSsimMeans] = {-c1, -c2, c1 * c1, c2 * c2, c1 * c2};  // of black pixels
    for (int k = 0; k < kSsimMeans; ++k) std::fill_n(roll.wide + k * kPitch, kPitch, outside[k]);
    const int64_t base = t.y0 - kHalo;  // ring rows count from here
    for (int64_t y = base; y < t.y1 + kHalo; ++y) {
      const int64_t row = y - base;
      if (y < 0 || y >= t.height) {
        roll.fill_row(row, outside);
      } else {
        const T* p1 = a.img1 + y * t.width + t.x0 - kHalo;
        const T* p2 = a.img2 + y * t.width + t.x0 - kHalo;
        T* w = roll.wide;
#pragma omp simd
        for (int64_t x = first; x < last; ++x) {
          const T u = p1[x] - c1, v = p2[x] - c2;
          w[kMu1 * kPitch + x] = u;
          w[kMu2 * kPitch + x] = v;
          w[kE11 * kPitch + x] = u * u;
          w[kE22 * kPitch + x] = v * v;
          w[kE12 * kPitch + x] = u * v;
        }
        roll.blur_row(row);
      }
      const int64_t out_y = y - kHalo;
      if (out_y < t.y0) continue;
      for (int k = 0; k < kSsimMeans; ++k) roll.column_sum(row, k, moments + k * kTileCols);
      write_row(a, t, out_y, moments);
    }
  }

  // m [kSsimMeans, kTileCols]
  static MMC_HD SsimTerms<T> terms_at(const ForwardArgs<T>& a, const T* m, int64_t x) {
    return ssim_terms(m[kMu1 * kTileCols + x], m[kMu2 * kTileCols + x], m[kE11 * kTileCols + x],
                      m[kE22 * kTileCols + x], m[kE12 * kTileCols + x], a.center1, a.center2);
  }

  static MMC_HD void write_row(const ForwardArgs<T>& a, const Tile& t, int64_t y, const T* m) {
    const int64_t at = y * t.width + t.x0, cols = t.x1 - t.x0;
    T* map = a.map + at;
    if (a.n_partials == 0) {
#pragma omp simd
      for (int64_t x = 0; x < cols; ++x) map[x] = ssim_map(terms_at(a, m, x));
      return;
    }
    T* d_mu1 = a.partials + at;
    T* d_e11 = d_mu1 + a.stride;
    T* d_e12 = d_e11 + a.stride;
    T* d_mu2 = a.n_partials == kSsimPartials ? d_e12 + a.stride : nullptr;
#pragma omp simd
    for (int64_t x = 0; x < cols; ++x) {
      const T mu1 = m[kMu1 * kTileCols + x], mu2 = m[kMu2 * kTileCols + x];
      const SsimTerms<T> terms = terms_at(a, m, x);
      const SsimPartials<T> p = ssim_partials(terms, mu1, mu2, a.center1, a.center2);
      map[x] = ssim_map(terms);
      d_mu1[x] = p.mu1;
      d_e11[x] = p.e11;
      d_e12[x] = p.e12;
    }
    if (!d_mu2) return;
#pragma omp simd
    for (int64_t x = 0; x < cols; ++x)
      d_mu2[x] = ssim_partials(terms_at(a, m, x), m[kMu1 * kTileCols + x],
                               m[kMu2 * kTileCols + x], a.center1, a.center2)
                     .mu2;
  }
};

template <typename T>
struct BackwardArgs {
  const T *v_map, *img1, *img2;  // [height, width], one plane
  T center1, center2;
  const T* partials;  // [K, ...] by stride
  int64_t stride;
  T *v_img1, *v_img2;  // v_img2 may be null
  T* scratch;
};

template <typename T, int K>  // K = 3: gradient of img1 only; 4: of both
struct BackwardTile {
  static MMC_HD void run(BackwardArgs<T> a, Tile t) {
    const Rolling<T, K> roll{a.scratch, a.scratch + K * kPitch, t.x1 - t.x0};
    T* sums = roll.ring + kTaps * K * kTileCols;
    const int64_t cols = t.x1 - t.x0;
    const int64_t first = max_<int64_t>(0, kHalo - t.x0);
    const int64_t last = min_<int64_t>(cols + 2 * kHalo, t.width - t.x0 + kHalo);
    std::fill_n(roll.wide, K * kPitch, T(0));
    const T zeros[K] = {};
    const int64_t base = t.y0 - kHalo;
    for (int64_t y = base; y < t.y1 + kHalo; ++y) {
      const int64_t row = y - base;
      if (y < 0 || y >= t.height) {
        roll.fill_row(row, zeros);
      } else {
        const int64_t at = y * t.width + t.x0 - kHalo;
        const T* g = a.v_map + at;
        for (int k = 0; k < K; ++k) {
          const T* p = a.partials + k * a.stride + at;
          T* w = roll.wide + k * kPitch;
#pragma omp simd
          for (int64_t x = first; x < last; ++x) w[x] = g[x] * p[x];
        }
        roll.blur_row(row);
      }
      const int64_t out_y = y - kHalo;
      if (out_y < t.y0) continue;
      for (int k = 0; k < K; ++k) roll.column_sum(row, k, sums + k * kTileCols);
      const int64_t at = out_y * t.width + t.x0;
      const T *p1 = a.img1 + at, *p2 = a.img2 + at, c1 = a.center1, c2 = a.center2;
      const T *s_mu1 = sums + kByMu1 * kTileCols, *s_e11 = sums + kByE11 * kTileCols;
      const T* s_e12 = sums + kByE12 * kTileCols;
      T* v1 = a.v_img1 + at;
#pragma omp simd
      for (int64_t x = 0; x < cols; ++x)
        v1[x] = ssim_image_grad(s_mu1[x], s_e11[x], s_e12[x], p1[x] - c1, p2[x] - c2);
      if (K == kSsimPartials) {
        const T* s_mu2 = sums + kByMu2 * kTileCols;
        T* v2 = a.v_img2 + at;
#pragma omp simd
        for (int64_t x = 0; x < cols; ++x)
          v2[x] = ssim_image_grad(s_mu2[x], s_e11[x], s_e12[x], p2[x] - c2, p1[x] - c1);
      }
    }
  }
};

// f(plane, tile) for every tile; tiles do not depend on the number of threads.
template <typename F>
void for_each_tile(int64_t planes, int64_t height, int64_t width, const F& f) {
  const int64_t rows = (height + kTileRows - 1) / kTileRows;
  const int64_t cols = (width + kTileCols - 1) / kTileCols;
  const int64_t n = planes * rows * cols;
  parallel_ranges(n, 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t ty = i / cols % rows, tx = i % cols;
      f(i / (rows * cols),
        Tile{height, width, ty * kTileRows, std::min(height, (ty + 1) * kTileRows),
             tx * kTileCols, std::min(width, (tx + 1) * kTileCols)});
    }
  });
}

std::tuple<at::Tensor, at::Tensor> ssim_fwd(const at::Tensor& img1, const at::Tensor& img2,
                                            const at::Tensor& centers, int64_t n_partials) {
  const at::Tensor x = img1.contiguous(), y = img2.contiguous(), c = centers.contiguous();
  const int64_t height = x.size(2), width = x.size(3), area = height * width;
  const int64_t planes = x.size(0) * x.size(1);
  at::Tensor map = at::empty_like(x);
  std::vector<int64_t> shape{n_partials};
  shape.insert(shape.end(), x.sizes().begin(), x.sizes().end());
  at::Tensor partials = at::empty(shape, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "fused_ssim_fwd", [&] {
    using T = scalar_t;
    const T *p1 = x.const_data_ptr<T>(), *p2 = y.const_data_ptr<T>();
    const T* pc = c.const_data_ptr<T>();
    T *m = map.data_ptr<T>(), *d = n_partials ? partials.data_ptr<T>() : nullptr;
    for_each_tile(planes, height, width, [&](int64_t plane, const Tile& tile) {
      static thread_local std::vector<T> scratch;
      scratch.resize(forward_scratch<T>());
      const int64_t at = plane * area;
      const ForwardArgs<T> args{p1 + at, p2 + at, pc[plane], pc[planes + plane], m + at,
                                d ? d + at : nullptr, planes * area,
                                static_cast<int>(n_partials), scratch.data()};
      dispatch<ForwardTile<T>>(args, tile);
    });
  });
  return {map, partials};
}

std::tuple<at::Tensor, at::Tensor> ssim_bwd(const at::Tensor& v_map, const at::Tensor& img1,
                                            const at::Tensor& img2, const at::Tensor& centers,
                                            const at::Tensor& partials) {
  const at::Tensor x = img1.contiguous(), y = img2.contiguous(), c = centers.contiguous();
  const at::Tensor g = v_map.contiguous(), p = partials.contiguous();
  const int64_t height = x.size(2), width = x.size(3), area = height * width;
  const int64_t planes = x.size(0) * x.size(1), n_partials = p.size(0);
  TORCH_CHECK(n_partials == 3 || n_partials == 4, "fused_ssim_bwd: partials: expected 3 or 4 maps,"
              " got ", n_partials, "; call fused_ssim with train=True");
  at::Tensor v1 = at::empty_like(x);
  at::Tensor v2 = n_partials == 4 ? at::empty_like(y) : at::empty({0}, y.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "fused_ssim_bwd", [&] {
    using T = scalar_t;
    const T *pg = g.const_data_ptr<T>(), *pp = p.const_data_ptr<T>();
    const T *p1 = x.const_data_ptr<T>(), *p2 = y.const_data_ptr<T>();
    const T* pc = c.const_data_ptr<T>();
    T *o1 = v1.data_ptr<T>(), *o2 = v2.data_ptr<T>();
    for_each_tile(planes, height, width, [&](int64_t plane, const Tile& tile) {
      static thread_local std::vector<T> scratch;
      scratch.resize(forward_scratch<T>());
      const int64_t at = plane * area;
      const BackwardArgs<T> args{pg + at, p1 + at, p2 + at, pc[plane], pc[planes + plane],
                                 pp + at, planes * area, o1 + at, n_partials == 4 ? o2 + at : nullptr, scratch.data()};
      if (n_partials == 4)
        dispatch<BackwardTile<T, 4>>(args, tile);
      else
        dispatch<BackwardTile<T, 3>>(args, tile);
    });
  });
  return {v1, v2};
}

}  // namespace
}  // namespace ssim_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("fused_ssim_fwd", &mmc::ssim_cpu::ssim_fwd);
  m.impl("fused_ssim_bwd", &mmc::ssim_cpu::ssim_bwd);
}
