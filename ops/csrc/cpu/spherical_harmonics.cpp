// Spherical harmonics on the CPU: bases of sixteen directions at a time, then one weighted sum
// of contiguous coefficients per Gaussian.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "math/cameras.h"
#include "math/sh.h"

namespace mmc {
namespace sh_cpu {

using OptTensor = std::optional<at::Tensor>;
constexpr int L = kLanes16;
constexpr int kMaxBases = 25;

// Rows that the kernels exchange: a unit direction and one over the length it had.
enum Unit { kDir, kInverse = kDir + 3, kUnits };

// Lanes: directions v [3, L] in; bases [25, L] and unit [kUnits, L] out.
template <typename T, int Degree>
struct BasisKernel {
  static MMC_HD void run(const T* __restrict v, T* __restrict bases, T* __restrict unit) {
#pragma omp simd
    for (int l = 0; l < L; ++l) {
      T inv;
      const Vec3<T> d = unit_direction(Vec3<T>{v[l], v[L + l], v[2 * L + l]}, inv);
      sh_basis<T, Degree>(d, bases + l, L);
      unit[kDir * L + l] = d.x;
      unit[(kDir + 1) * L + l] = d.y;
      unit[(kDir + 2) * L + l] = d.z;
      unit[kInverse * L + l] = inv;
    }
  }
};

// Gradient of the raw directions [3, L] from those of the bases [25, L].
template <typename T, int Degree>
struct BasisVjpKernel {
  static MMC_HD void run(const T* __restrict g, const T* __restrict unit, T* __restrict out) {
#pragma omp simd
    for (int l = 0; l < L; ++l) {
      const Vec3<T> d{unit[kDir * L + l], unit[(kDir + 1) * L + l], unit[(kDir + 2) * L + l]};
      const Vec3<T> o =
          unit_direction_vjp(d, unit[kInverse * L + l], sh_basis_vjp<T, Degree>(d, g + l, L));
      out[l] = o.x;
      out[L + l] = o.y;
      out[2 * L + l] = o.z;
    }
  }
};

template <template <typename, int> class Kernel, typename T, typename... Args>
void run_kernel(int64_t degree, Args... args) {
  const auto call = [&](auto tag) {
    constexpr int Degree = decltype(tag)::value;
    if constexpr (std::is_same_v<T, float>)
      dispatch<Kernel<T, Degree>>(args...);
    else
      run_baseline<Kernel<T, Degree>>(args...);
  };
  switch (degree) {
    case 0: call(std::integral_constant<int, 0>()); break;
    case 1: call(std::integral_constant<int, 1>()); break;
    case 2: call(std::integral_constant<int, 2>()); break;
    case 3: call(std::integral_constant<int, 3>()); break;
    default: call(std::integral_constant<int, 4>());
  }
}

// out[d] = sum_k y[k] c[k, d]; with three channels four numbers are loaded at once, except at
// the last coefficient, behind which the array may end.
template <typename T>
inline void weighted_sum(const T* c, const T* y, int64_t count, int64_t channels, T* out) {
  if (channels == 3) {
    T even[4] = {}, odd[4] = {};
    int64_t k = 0;
    for (; k + 2 < count; k += 2)
      for (int d = 0; d < 4; ++d) {
        even[d] += y[k * L] * c[3 * k + d];
        odd[d] += y[(k + 1) * L] * c[3 * k + 3 + d];
      }
    for (; k < count; ++k)
      for (int d = 0; d < 3; ++d) even[d] += y[k * L] * c[3 * k + d];
    for (int d = 0; d < 3; ++d) out[d] += even[d] + odd[d];
    return;
  }
  for (int64_t k = 0; k < count; ++k)
    for (int64_t d = 0; d < channels; ++d) out[d] += y[k * L] * c[channels * k + d];
}

// g[k] = c[k] . v, and grad[k, d] += y[k] v[d]
template <typename T>
inline void coefficient_vjp(const T* c, const T* y, const T* v, int64_t count, int64_t channels,
                            T* g, T* grad, bool need_g) {
  if (channels == 3) {
    for (int64_t k = 0; k < count; ++k) {
      if (need_g) g[k * L] = c[3 * k] * v[0] + c[3 * k + 1] * v[1] + c[3 * k + 2] * v[2];
      if (grad)
        for (int d = 0; d < 3; ++d) grad[3 * k + d] += y[k * L] * v[d];
    }
    return;
  }
  for (int64_t k = 0; k < count; ++k) {
    T sum = 0;
    for (int64_t d = 0; d < channels; ++d) {
      sum += c[channels * k + d] * v[d];
      if (grad) grad[channels * k + d] += y[k * L] * v[d];
    }
    g[k * L] = sum;
  }
}

// The inner two sizes of coefficients must be dense; rows may be strided (slices of one tensor).
inline at::Tensor row_strided(const at::Tensor& t) {
  const bool inner = t.dim() == 3 && t.stride(2) == 1 && t.stride(1) == t.size(2);
  return inner ? t : t.contiguous();
}

struct Inputs {
  at::Tensor means, viewmats, base, rest, masks, camera_ids, gaussian_ids;
  std::vector<int64_t> lead;
  int64_t B, N, C, D, degree, bases, base_count, rest_count, base_stride, rest_stride;
  std::vector<Run> runs;  // packed

  Inputs(int64_t deg, const at::Tensor& m, const at::Tensor& v, const at::Tensor& b,
         const OptTensor& r, const OptTensor& mask, const OptTensor& cam, const OptTensor& gauss)
      : means(m.contiguous()),
        viewmats(v.contiguous()),
        base(row_strided(b)),
        rest(r.has_value() && r->defined() ? row_strided(*r) : at::Tensor()),
        masks(dense_of(mask)),
        camera_ids(dense_of(cam)),
        gaussian_ids(dense_of(gauss)),
        lead(lead_sizes(m, 2)),
        degree(deg) {
    B = product(lead);
    N = means.size(-2);
    C = viewmats.size(-3);
    D = base.size(-1);
    bases = sh_count(static_cast<int>(degree));
    base_count = std::min(bases, base.size(-2));
    rest_count = bases - base_count;
    base_stride = base.dim() == 3 ? base.stride(0) : base.size(-2) * D;
    rest_stride = !rest.defined() ? 0 : (rest.dim() == 3 ? rest.stride(0) : rest.size(-2) * D);
    TORCH_CHECK(rest_count == 0 || (rest.defined() && rest.size(-2) >= rest_count),
                "sh: degree ", degree, " needs ", bases, " coefficients");
    if (gaussian_ids.defined()) find_runs();
  }

  void find_runs() {
    const int64_t n = gaussian_ids.numel();
    const int64_t *cam = camera_ids.const_data_ptr<int64_t>(),
                  *gauss = gaussian_ids.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < n; ++i) {
      TORCH_CHECK_INDEX(cam[i] >= 0 && cam[i] < C && gauss[i] >= 0 && gauss[i] < N,
                        "sh: row ", i, " names camera ", cam[i], " of ", C, ", Gaussian ",
                        gauss[i], " of ", N);
      if (i == 0 || cam[i] != cam[i - 1] || gauss[i] <= gauss[i - 1]) {
        if (i) runs.back().end = i;
        runs.push_back({cam[i], i, n});
      }
    }
  }

  bool packed() const { return gaussian_ids.defined(); }
  int64_t chunks() const { return (N + kChunk - 1) / kChunk; }
  // Units of work of one chunk of Gaussians: cameras, or runs of packed rows.
  int64_t groups() const { return packed() ? static_cast<int64_t>(runs.size()) : C; }
  int64_t image(int64_t b, int64_t group) const {
    return packed() ? runs[group].image : b * C + group;
  }
  void list(RowList& rows, int64_t b, int64_t group, int64_t n0, int64_t n1) const {
    if (packed())
      list_packed(rows, gaussian_ids.const_data_ptr<int64_t>(), runs[group], n0, n1);
    else
      list_dense(rows, nullptr, data_or_null<bool>(masks), (b * C + group) * N, n0, n1);
  }

  template <typename T>
  std::vector<Vec3<T>> centers() const {
    std::vector<Vec3<T>> out;
    const T K[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    for (int64_t i = 0; i < B * C; ++i)
      out.push_back(camera_center(
          make_camera<T, T>(viewmats.const_data_ptr<T>() + 16 * i, K, T(1), T(1))));
    return out;
  }
};

// Directions of up to sixteen rows of a list, and the bases there.
template <typename T>
struct Block {
  alignas(64) T dirs[3][L], unit[kUnits][L], bases[kMaxBases][L];
  int used;

  void fill(const Inputs& in, const T* means, const RowList& rows, int start, const Vec3<T>& o) {
    used = std::min(L, rows.count - start);
    for (int l = 0; l < L; ++l) {
      const T* m = means + 3 * rows.gaussian[start + (l < used ? l : used - 1)];
      dirs[0][l] = m[0] - o.x;
      dirs[1][l] = m[1] - o.y;
      dirs[2][l] = m[2] - o.z;
    }
    run_kernel<BasisKernel, T>(in.degree, static_cast<const T*>(dirs[0]), bases[0], unit[0]);
  }
};

at::Tensor sh_fwd_cpu(int64_t degree, const at::Tensor& means, const at::Tensor& viewmats,
                      const at::Tensor& base, const OptTensor& rest, const OptTensor& masks,
                      const OptTensor& camera_ids, const OptTensor& gaussian_ids, bool shift) {
  const Inputs in(degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids);
  const auto shape = in.packed() ? std::vector<int64_t>{in.gaussian_ids.numel(), in.D}
                                 : join(in.lead, {in.C, in.N, in.D});
  const at::Tensor colors = in.masks.defined() ? at::zeros(shape, in.means.options())
                                               : at::empty(shape, in.means.options());
  if (colors.numel() == 0) return colors;
  AT_DISPATCH_FLOATING_TYPES(in.means.scalar_type(), "sh_fwd", [&] {
    using T = scalar_t;
    const auto centers = in.centers<T>();
    const T *b_data = in.base.const_data_ptr<T>(), *r_data = data_or_null<T>(in.rest);
    parallel_ranges(in.B * in.chunks(), 4, 1, [&](int64_t first, int64_t last) {
      RowList rows;
      Block<T> block;
      for (int64_t task = first; task < last; ++task) {
        const int64_t b = task / in.chunks(), n0 = task % in.chunks() * kChunk;
        for (int64_t group = 0; group < in.groups(); ++group) {
          in.list(rows, b, group, n0, std::min(in.N, n0 + kChunk));
          for (int start = 0; start < rows.count; start += L) {
            block.fill(in, in.means.const_data_ptr<T>() + 3 * b * in.N, rows, start,
                       centers[in.image(b, group)]);
            for (int l = 0; l < block.used; ++l) {
              const int64_t n = b * in.N + rows.gaussian[start + l];
              T* out = colors.data_ptr<T>() + in.D * rows.row[start + l];
              const T* y = &block.bases[0][l];
              for (int64_t d = 0; d < in.D; ++d) out[d] = shift ? T(0.5) : T(0);
              weighted_sum(b_data + n * in.base_stride, y, in.base_count, in.D, out);
              if (in.rest_count)
                weighted_sum(r_data + n * in.rest_stride, y + in.base_count * L, in.rest_count,
                             in.D, out);
              if (shift)
                for (int64_t d = 0; d < in.D; ++d) out[d] = max_(out[d], T(0));
            }
          }
        }
      }
    });
  });
  return colors;
}

using Grads = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

Grads sh_bwd_cpu(int64_t degree, const at::Tensor& means, const at::Tensor& viewmats,
                 const at::Tensor& base, const OptTensor& rest, const OptTensor& masks,
                 const OptTensor& camera_ids, const OptTensor& gaussian_ids, bool shift,
                 const OptTensor& colors, const at::Tensor& v_colors, bool need_means,
                 bool need_viewmats) {
  const Inputs in(degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids);
  const at::Tensor v = v_colors.contiguous(), shown = dense_of(colors);
  const auto options = in.means.options();
  const at::Tensor g_base = at::empty(base.sizes(), options);
  const at::Tensor g_rest = in.rest.defined() ? at::empty(in.rest.sizes(), options)
                                              : at::empty({0}, options);
  const at::Tensor g_means = need_means ? at::zeros(in.means.sizes(), options)
                                        : at::empty({0}, options);
  const at::Tensor g_view = need_viewmats ? at::zeros(in.viewmats.sizes(), options)
                                          : at::empty({0}, options);
  if (in.N == 0) return {g_means, g_view, g_base, g_rest};
  const int64_t images = in.B * in.C, groups = in.groups(), chunks = in.chunks();
  const bool need_dirs = (need_means || need_viewmats) && degree > 0;
  AT_DISPATCH_FLOATING_TYPES(in.means.scalar_type(), "sh_bwd", [&] {
    using T = scalar_t;
    const auto centers = in.centers<T>();
    const T *b_data = in.base.const_data_ptr<T>(), *r_data = data_or_null<T>(in.rest);
    T *gb = g_base.data_ptr<T>(), *gr = mutable_or_null<T>(g_rest);
    T* gm = mutable_or_null<T>(g_means);
    const int64_t b_row = base.size(-2) * in.D, r_row = in.rest.defined() ? in.rest.size(-2) * in.D : 0;
    // sums of direction gradients by (batch, group, chunk): those of the camera centres
    std::vector<double> center(need_viewmats && need_dirs ? in.B * groups * chunks * 3 : 0, 0.0);
    parallel_ranges(in.B * chunks, 4, 1, [&](int64_t first, int64_t last) {
      RowList rows;
      Block<T> block;
      alignas(64) T g_y[kMaxBases][L] = {}, g_dir[3][L];
      for (int64_t task = first; task < last; ++task) {
        const int64_t b = task / chunks, chunk = task % chunks, n0 = chunk * kChunk;
        const int64_t n1 = std::min(in.N, n0 + kChunk);
        std::fill(gb + (b * in.N + n0) * b_row, gb + (b * in.N + n1) * b_row, T(0));
        if (gr) std::fill(gr + (b * in.N + n0) * r_row, gr + (b * in.N + n1) * r_row, T(0));
        for (int64_t group = 0; group < groups; ++group) {
          in.list(rows, b, group, n0, n1);
          double sum[3] = {};
          for (int start = 0; start < rows.count; start += L) {
            block.fill(in, in.means.const_data_ptr<T>() + 3 * b * in.N, rows, start,
                       centers[in.image(b, group)]);
            for (int l = 0; l < block.used; ++l) {
              const int64_t n = b * in.N + rows.gaussian[start + l], o = in.D * rows.row[start + l];
              const T* g = v.const_data_ptr<T>() + o;
              T clamped[4];
              std::vector<T> many;
              if (shift) {  // no gradient where max(.., 0) is active
                T* masked = clamped;
                if (in.D > 4) {
                  many.resize(in.D);
                  masked = many.data();
                }
                const T* c = shown.const_data_ptr<T>() + o;
                for (int64_t d = 0; d < in.D; ++d) masked[d] = c[d] > T(0) ? g[d] : T(0);
                g = masked;
              }
              const T* y = &block.bases[0][l];
              coefficient_vjp(b_data + n * in.base_stride, y, g, in.base_count, in.D, &g_y[0][l],
                              gb + n * b_row, need_dirs);
              if (in.rest_count)
                coefficient_vjp(r_data + n * in.rest_stride, y + in.base_count * L, g,
                                in.rest_count, in.D, &g_y[in.base_count][l], gr + n * r_row,
                                need_dirs);
            }
            if (!need_dirs) continue;
            run_kernel<BasisVjpKernel, T>(in.degree, static_cast<const T*>(g_y[0]),
                                          static_cast<const T*>(block.unit[0]), g_dir[0]);
            for (int l = 0; l < block.used; ++l)
              for (int k = 0; k < 3; ++k) {
                if (gm) gm[3 * (b * in.N + rows.gaussian[start + l]) + k] += g_dir[k][l];
                sum[k] += g_dir[k][l];
              }
          }
          if (!center.empty())
            for (int k = 0; k < 3; ++k) center[((b * groups + group) * chunks + chunk) * 3 + k] = sum[k];
        }
      }
    });
    if (center.empty()) return;
    std::vector<double> total(images * 3, 0.0);
    for (int64_t b = 0; b < in.B; ++b)
      for (int64_t group = 0; group < groups; ++group)
        for (int64_t chunk = 0; chunk < chunks; ++chunk)
          for (int k = 0; k < 3; ++k)
            total[3 * in.image(b, group) + k] -=
                center[((b * groups + group) * chunks + chunk) * 3 + k];
    for (int64_t i = 0; i < images; ++i) {  // o = -R^T t
      const T* m = in.viewmats.const_data_ptr<T>() + 16 * i;
      T* out = g_view.data_ptr<T>() + 16 * i;
      const double* g = &total[3 * i];
      for (int r = 0; r < 3; ++r) {
        for (int c = 0; c < 3; ++c) out[4 * r + c] = T(-double(m[4 * r + 3]) * g[c]);
        out[4 * r + 3] = T(-(m[4 * r] * g[0] + m[4 * r + 1] * g[1] + m[4 * r + 2] * g[2]));
      }
    }
  });
  return {g_means, g_view, g_base, g_rest};
}

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("sh_fwd", &sh_fwd_cpu);
  m.impl("sh_bwd", &sh_bwd_cpu);
}

}  // namespace sh_cpu
}  // namespace mmc
