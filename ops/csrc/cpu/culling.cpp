// Frustum culling and level-of-detail selection on the CPU: one pass over the points.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "math/cull.h"

namespace mmc {
namespace culling_cpu {  // several files may be compiled as one
namespace {

using OptTensor = std::optional<at::Tensor>;
constexpr int64_t kGrain = 8192;

at::Tensor frustum_cull_cpu(const at::Tensor& points, const OptTensor& radii,
                            const at::Tensor& viewmats, const at::Tensor& Ks, int64_t width,
                            int64_t height, double near_plane, double far_plane, double margin) {
  const at::Tensor p = points.contiguous(), r = dense_of(radii), v = viewmats.contiguous();
  const at::Tensor k = Ks.contiguous();
  const int64_t N = p.size(0), C = v.size(0);
  const at::Tensor out = at::empty({C, N}, p.options().dtype(at::kBool));
  AT_DISPATCH_FLOATING_TYPES(p.scalar_type(), "frustum_cull", [&] {
    using T = scalar_t;
    std::vector<Frustum<T>> frusta;
    for (int64_t c = 0; c < C; ++c)
      frusta.push_back(make_frustum(
          make_camera<T, T>(v.const_data_ptr<T>() + 16 * c, k.const_data_ptr<T>() + 9 * c,
                            T(width), T(height)),
          T(near_plane), T(far_plane)));
    const T *x = p.const_data_ptr<T>(), *rad = data_or_null<T>(r);  // [N, 3], [N] or null
    bool* o = out.data_ptr<bool>();
    parallel_ranges(N, kGrain, 1, [&](int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        const Vec3<T> q = load_vec(x + 3 * n);
        for (int64_t c = 0; c < C; ++c)
          o[c * N + n] = rad ? sphere_visible(frusta[c], q, rad[n] + T(margin))
                             : center_visible(frusta[c], q);
      }
    });
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> select_lod_cpu(
    const at::Tensor& anchors, const at::Tensor& levels, const OptTensor& extra_level,
    const at::Tensor& cam_centers, double voxel_size, int64_t fork, int64_t n_levels,
    double standard_dist, double resolution_scale, int64_t mode) {
  const at::Tensor a = anchors.contiguous(), l = levels.contiguous(), e = dense_of(extra_level);
  const at::Tensor o = cam_centers.contiguous();
  const int64_t N = a.size(0), C = o.size(0);
  const bool progressive = mode == 3;
  const auto shape = progressive ? std::vector<int64_t>{C, N} : std::vector<int64_t>{0};
  const at::Tensor mask = at::empty({C, N}, a.options().dtype(at::kBool));
  const at::Tensor ratio = at::empty(shape, a.options());
  const at::Tensor transition = at::empty(shape, a.options().dtype(at::kBool));
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "select_lod", [&] {
    using T = scalar_t;
    const T *x = a.const_data_ptr<T>(), *cen = o.const_data_ptr<T>();  // [N, 3], [C, 3]
    const T* ex = data_or_null<T>(e);                                  // [N] or null
    const int32_t* lev = l.const_data_ptr<int32_t>();
    bool *m = mask.data_ptr<bool>(), *tr = mutable_or_null<bool>(transition);
    T* ra = mutable_or_null<T>(ratio);
    const T inv_log = T(1) / log_(T(fork)), top = T(n_levels - 1), near_one = T(0.9999);
    parallel_ranges(N, kGrain / 4, 1, [&](int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        const Vec3<T> p = load_vec(x + 3 * n);
        const T half = T(0.5 * voxel_size) / T(std::pow(double(fork), double(lev[n])));
        for (int64_t c = 0; c < C; ++c) {
          const T want = wanted_level(p, half, load_vec(cen + 3 * c), T(standard_dist),
                                      T(resolution_scale), inv_log, ex ? ex[n] : T(0));
          const int64_t i = c * N + n;
          if (progressive) {
            const T position = clamp_(want + T(1), near_one, top + near_one);
            const T whole = floor_(position);
            m[i] = T(lev[n]) <= whole;
            ra[i] = position - whole;
            tr[i] = T(lev[n]) == whole;
          } else {
            T level = mode == 0 ? floor_(want) : (mode == 1 ? std::nearbyint(want) : ceil_(want));
            m[i] = T(lev[n]) <= clamp_(level, T(0), top);
          }
        }
      }
    });
  });
  return {mask, ratio, transition};
}

}  // namespace
}  // namespace culling_cpu

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("frustum_cull", &culling_cpu::frustum_cull_cpu);
  m.impl("select_lod", &culling_cpu::select_lod_cpu);
}

}  // namespace mmc
