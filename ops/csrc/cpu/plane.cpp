// Planes of flat Gaussians and depth from blended planes on the CPU. Gradients are added in the
// order of rows, so they do not depend on the number of threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <array>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "math/plane.h"

namespace mmc {
namespace plane_cpu {  // several files may be compiled as one
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

constexpr int64_t kBlock = 512;  // rows whose pose gradients are added first

template <typename T>
Camera<T> pose(const T* viewmat) {
  const T K[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  return make_camera<T, T>(viewmat, K, T(1), T(1));
}
// Gradients of one row: mean and quaternion.
enum RowGrad { kMean, kQuat = kMean + 3, kRowGrads = kQuat + 4 };
static_assert(kRowGrads * sizeof(float) == sizeof(Vec3<float>) + sizeof(Quat<float>));
constexpr int kPose = 12;  // of a camera, [3, 4]

// Rows of a dense or packed call: which camera and which Gaussian (both flat over batches).
struct Rows {
  int64_t count, gaussians, cameras;  // Gaussians and cameras of all batches
  int64_t n, c;                       // per batch
  const int64_t *camera_ids, *gaussian_ids;
  bool packed;  // ids of a call without rows are null

  Rows(const Tensor& means, const Tensor& viewmats, const Tensor& cam, const Tensor& gauss) {
    n = means.size(-2);
    c = viewmats.size(-3);
    gaussians = means.numel() / 3;
    cameras = viewmats.numel() / 16;
    packed = gauss.defined();
    camera_ids = packed ? cam.const_data_ptr<int64_t>() : nullptr;
    gaussian_ids = packed ? gauss.const_data_ptr<int64_t>() : nullptr;
    count = packed ? gauss.numel() : (means.dim() == 3 ? means.size(0) : 1) * c * n;
    bool outside = false;
    for (int64_t r = 0; packed && r < count; ++r)
      outside |= uint64_t(camera_ids[r]) >= uint64_t(cameras) ||
                 uint64_t(gaussian_ids[r]) >= uint64_t(gaussians);
    TORCH_CHECK_INDEX(!outside, "camera_ids or gaussian_ids: a number is not below ", cameras,
                      " or ", gaussians);
  }
  int64_t camera(int64_t row) const { return packed ? camera_ids[row] : row / n; }
  int64_t gaussian(int64_t row) const {
    return packed ? gaussian_ids[row] : row / (n * c) * n + row % n;
  }
};

Tensor features_fwd(const Tensor& means, const Tensor& quats, const Tensor& scales,
                    const Tensor& viewmats, const OptTensor& camera_ids,
                    const OptTensor& gaussian_ids) {
  const Tensor m = means.contiguous(), q = quats.contiguous(), s = scales.contiguous();
  const Tensor v = viewmats.contiguous(), cam = dense_of(camera_ids), g = dense_of(gaussian_ids);
  const Rows rows(m, v, cam, g);
  Tensor out = rows.packed ? at::empty({rows.count, 4}, m.options())
                             : at::empty({m.size(0), rows.c, rows.n, 4}, m.options());
  AT_DISPATCH_FLOATING_TYPES(m.scalar_type(), "plane_features_fwd", [&] {
    using T = scalar_t;
    const T *pm = data_or_null<T>(m), *pq = data_or_null<T>(q), *ps = data_or_null<T>(s);
    const T* pv = data_or_null<T>(v);
    T* po = mutable_or_null<T>(out);
    parallel_ranges(rows.count, 4096, 1, [&](int64_t begin, int64_t end) {
      int64_t shown = -1;
      Camera<T> view{};
      for (int64_t r = begin; r < end; ++r) {
        const int64_t c = rows.camera(r), i = rows.gaussian(r);
        if (c != shown) view = pose(pv + 16 * c);
        shown = c;
        const Plane<T> p = plane_of(view, load_vec(pm + 3 * i), load_quat(pq + 4 * i),
                                    load_vec(ps + 3 * i));
        po[4 * r] = p.normal.x;
        po[4 * r + 1] = p.normal.y;
        po[4 * r + 2] = p.normal.z;
        po[4 * r + 3] = abs_(p.signed_distance);
      }
    });
  });
  return out;
}

// Rows of each Gaussian in order: [first[g], first[g + 1]) of `order`.
struct RowsByGaussian {
  std::vector<int64_t> first, order;

  explicit RowsByGaussian(const Rows& rows) {
    if (!rows.packed) return;
    first.assign(rows.gaussians + 1, 0);
    order.resize(rows.count);
    for (int64_t r = 0; r < rows.count; ++r) ++first[rows.gaussian_ids[r] + 1];
    for (int64_t g = 0; g < rows.gaussians; ++g) first[g + 1] += first[g];
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (int64_t r = 0; r < rows.count; ++r) order[next[rows.gaussian_ids[r]]++] = r;
  }
};

std::tuple<Tensor, Tensor, Tensor> features_bwd(const Tensor& v_features, const Tensor& means,
                                                const Tensor& quats, const Tensor& scales,
                                                const Tensor& viewmats,
                                                const OptTensor& camera_ids,
                                                const OptTensor& gaussian_ids, bool poses) {
  const Tensor m = means.contiguous(), q = quats.contiguous(), s = scales.contiguous();
  const Tensor v = viewmats.contiguous(), cam = dense_of(camera_ids), g = dense_of(gaussian_ids);
  const Tensor vf = v_features.contiguous();
  const Rows rows(m, v, cam, g);
  Tensor v_means = at::empty_like(m), v_quats = at::empty_like(q);
  Tensor v_view = poses ? at::zeros_like(v) : at::empty({0}, v.options());
  AT_DISPATCH_FLOATING_TYPES(m.scalar_type(), "plane_features_bwd", [&] {
    using T = scalar_t;
    const T *pm = data_or_null<T>(m), *pq = data_or_null<T>(q), *ps = data_or_null<T>(s);
    const T *pv = data_or_null<T>(v), *pf = data_or_null<T>(vf);
    std::vector<T> per_row(rows.count * kRowGrads);
    struct PoseSum {
      int64_t camera;
      std::array<T, kPose> sum;
    };
    const int64_t blocks = (rows.count + kBlock - 1) / kBlock;
    std::vector<std::vector<PoseSum>> sums(blocks);
    parallel_ranges(blocks, 8, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        int64_t shown = -1;
        Camera<T> view{};
        for (int64_t r = b * kBlock; r < std::min(rows.count, (b + 1) * kBlock); ++r) {
          const int64_t c = rows.camera(r), i = rows.gaussian(r);
          if (c != shown) {
            view = pose(pv + 16 * c);
            if (poses) sums[b].push_back({c, {}});
          }
          shown = c;
          const PlaneGrad<T> grad =
              plane_vjp(view, load_vec(pm + 3 * i), load_quat(pq + 4 * i), load_vec(ps + 3 * i),
                        load_vec(pf + 4 * r), pf[4 * r + 3]);
          const T terms[] = {grad.mean.x, grad.mean.y, grad.mean.z, grad.quat.w,
                             grad.quat.x, grad.quat.y, grad.quat.z};
          std::copy_n(terms, kRowGrads, per_row.data() + kRowGrads * r);
          if (!poses) continue;
          T* sum = sums[b].back().sum.data();
          const T shift[] = {grad.t.x, grad.t.y, grad.t.z};
          for (int a = 0; a < 3; ++a, sum += 4) {
            for (int k = 0; k < 3; ++k) sum[k] += grad.r.m[a][k];
            sum[3] += shift[a];
          }
        }
      }
    });
    if (poses) {
      T* out = v_view.data_ptr<T>();
      for (const auto& block : sums)
        for (const PoseSum& part : block)
          for (int k = 0; k < kPose; ++k) out[16 * part.camera + k] += part.sum[k];
    }
    const RowsByGaussian lists(rows);
    T *gm = mutable_or_null<T>(v_means), *gq = mutable_or_null<T>(v_quats);
    parallel_ranges(rows.gaussians, 4096, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T total[kRowGrads] = {};
        const auto add = [&](int64_t r) {
          for (int k = 0; k < kRowGrads; ++k) total[k] += per_row[kRowGrads * r + k];
        };
        if (rows.packed)
          for (int64_t k = lists.first[i]; k < lists.first[i + 1]; ++k) add(lists.order[k]);
        else
          for (int64_t c = 0; c < rows.c; ++c) add((i / rows.n * rows.c + c) * rows.n + i % rows.n);
        std::copy_n(total + kMean, 3, gm + 3 * i);
        std::copy_n(total + kQuat, 4, gq + 4 * i);
      }
    });
  });
  return {v_means, v_quats, v_view};
}

template <typename T>
PlaneRay<T> ray_of(const T* K) {
  return {T(1) / K[0], T(1) / K[4], K[2], K[5]};
}

// f(image, x, y, pixel) for all pixels of [images, height, width, ...].
template <typename F>
void for_each_pixel(const Tensor& images, const F& f) {
  const int64_t height = images.size(1), width = images.size(2);
  parallel_ranges(images.size(0) * height, std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)),
                  1, [&](int64_t begin, int64_t end) {
                    for (int64_t row = begin; row < end; ++row)
                      for (int64_t x = 0; x < width; ++x)
                        f(row / height, x, row % height, row * width + x);
                  });
}

std::tuple<Tensor, Tensor> depth_fwd(const Tensor& normals, const Tensor& distances,
                                     const Tensor& alphas, const Tensor& Ks, double min_alpha,
                                     double min_cosine) {
  const Tensor n = normals.contiguous(), d = distances.contiguous(), a = alphas.contiguous();
  const Tensor k = Ks.contiguous();
  Tensor depth = at::empty_like(d), valid = at::empty(d.sizes(), d.options().dtype(at::kBool));
  AT_DISPATCH_FLOATING_TYPES(n.scalar_type(), "plane_depth_fwd", [&] {
    using T = scalar_t;
    const T *pn = data_or_null<T>(n), *pd = data_or_null<T>(d), *pa = data_or_null<T>(a);
    const T* pk = data_or_null<T>(k);
    const PlaneDepthLimits<T> limits{static_cast<T>(min_alpha), static_cast<T>(min_cosine)};
    T* out = mutable_or_null<T>(depth);
    bool* ok = mutable_or_null<bool>(valid);
    for_each_pixel(n, [&](int64_t image, int64_t x, int64_t y, int64_t p) {
      const T along = along_ray(ray_of(pk + 9 * image), x, y, pn + 3 * p);
      const bool good = plane_valid(along, pa[p], limits);
      ok[p] = good;
      out[p] = good ? plane_depth(along, pd[p]) : T(0);
    });
  });
  return {depth, valid};
}

std::tuple<Tensor, Tensor> depth_bwd(const Tensor& v_depth, const Tensor& normals,
                                     const Tensor& distances, const Tensor& valid,
                                     const Tensor& Ks) {
  const Tensor n = normals.contiguous(), d = distances.contiguous(), ok = valid.contiguous();
  const Tensor k = Ks.contiguous(), g = v_depth.contiguous();
  Tensor v_normals = at::empty_like(n), v_distances = at::empty_like(d);
  AT_DISPATCH_FLOATING_TYPES(n.scalar_type(), "plane_depth_bwd", [&] {
    using T = scalar_t;
    const T *pn = data_or_null<T>(n), *pd = data_or_null<T>(d), *pg = data_or_null<T>(g);
    const T* pk = data_or_null<T>(k);
    const bool* good = data_or_null<bool>(ok);
    T *vn = mutable_or_null<T>(v_normals), *vd = mutable_or_null<T>(v_distances);
    for_each_pixel(n, [&](int64_t image, int64_t x, int64_t y, int64_t p) {
      if (good[p]) {
        plane_depth_vjp(ray_of(pk + 9 * image), x, y, pn + 3 * p, pd[p], pg[p], vn + 3 * p, vd[p]);
      } else {
        vn[3 * p] = vn[3 * p + 1] = vn[3 * p + 2] = T(0);
        vd[p] = T(0);
      }
    });
  });
  return {v_normals, v_distances};
}

}  // namespace
}  // namespace plane_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("plane_features_fwd", &mmc::plane_cpu::features_fwd);
  m.impl("plane_features_bwd", &mmc::plane_cpu::features_bwd);
  m.impl("plane_depth_fwd", &mmc::plane_cpu::depth_fwd);
  m.impl("plane_depth_bwd", &mmc::plane_cpu::depth_bwd);
}
