// Fusion of depth maps into blocks of voxels on the CPU (a dense volume is one block).
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "math/tsdf.h"

namespace mmc {
namespace tsdf_cpu {  // several files may be compiled as one
namespace {

struct Pose {
  double r[9], t[3];

  explicit Pose(const at::Tensor& viewmat) {
    const at::Tensor m = viewmat.to(at::kDouble).contiguous();
    const double* p = m.const_data_ptr<double>();
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) r[3 * i + j] = p[4 * i + j];
      t[i] = p[4 * i + 3];
    }
  }
  void to_camera(const double* x, double* out) const {
    for (int i = 0; i < 3; ++i)
      out[i] = r[3 * i] * x[0] + r[3 * i + 1] * x[1] + r[3 * i + 2] * x[2] + t[i];
  }
};

// Whether a sphere in camera coordinates can meet the frustum.
template <typename T>
bool may_see(const TsdfView<T>& v, const double* c, double radius) {
  if (c[2] + radius <= 0 || c[2] - radius > double(v.max_depth) + double(v.trunc)) return false;
  const double planes[4][3] = {{v.fx, 0, v.cx},
                               {-double(v.fx), 0, v.width - double(v.cx)},
                               {0, v.fy, v.cy},
                               {0, -double(v.fy), v.height - double(v.cy)}};
  for (const auto& p : planes) {
    const double norm = std::sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]);
    if (p[0] * c[0] + p[1] * c[1] + p[2] * c[2] < -radius * norm) return false;
  }
  return true;
}

template <typename T>
struct RowArgs {
  TsdfView<T> view;
  T base[3], step[3];  // camera coordinates of the first voxel of a row, and between voxels
  int64_t n;
  T *tsdf, *weight, *color;  // [n], [n], [n, 3]
  const T* image;            // [H, W, 3] or null
};

template <typename T>
struct IntegrateRow {
  static MMC_HD void run(RowArgs<T> a) {
    constexpr int64_t kChunk = 64;
    int32_t pixels[kChunk];
    for (int64_t first = 0; first < a.n; first += kChunk) {
      const int64_t count = min_(kChunk, a.n - first);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) {
        const T k = T(first + i);
        const T x = a.base[0] + k * a.step[0], y = a.base[1] + k * a.step[1];
        pixels[i] = static_cast<int32_t>(tsdf_pixel(a.view, x, y, a.base[2] + k * a.step[2]));
      }
      for (int64_t i = 0; i < count; ++i) {
        T value;
        const T z = a.base[2] + T(first + i) * a.step[2];
        if (pixels[i] < 0 || !tsdf_value(a.view, pixels[i], z, &value)) continue;
        const int64_t at = first + i;
        const T weight = a.weight[at];
        a.tsdf[at] = running_mean(a.tsdf[at], weight, value, a.view.weight);
        if (a.image) {
          for (int c = 0; c < 3; ++c)
            a.color[3 * at + c] = running_mean(a.color[3 * at + c], weight,
                                               a.image[3 * int64_t(pixels[i]) + c],
                                               a.view.weight);
        }
        a.weight[at] = weight + a.view.weight;
      }
    }
  }
};

template <typename T>
TsdfView<T> make_view(const at::Tensor& depth, const at::Tensor* mask, const at::Tensor& K,
                      double trunc, double max_depth, double weight) {
  const at::Tensor k = K.to(at::kDouble).contiguous();
  const double* p = k.const_data_ptr<double>();
  TsdfView<T> v;
  v.fx = static_cast<T>(p[0]);
  v.fy = static_cast<T>(p[4]);
  v.cx = static_cast<T>(p[2]);
  v.cy = static_cast<T>(p[5]);
  v.height = static_cast<int32_t>(depth.size(0));
  v.width = static_cast<int32_t>(depth.size(1));
  v.trunc = static_cast<T>(trunc);
  v.max_depth = static_cast<T>(max_depth);
  v.weight = static_cast<T>(weight);
  v.depth = depth.const_data_ptr<float>();
  v.mask = mask ? reinterpret_cast<const uint8_t*>(mask->const_data_ptr<bool>()) : nullptr;
  return v;
}

// f(unit) for all units, handed out a few at a time: culled ones cost nothing.
template <typename F>
void for_each_unit(int64_t n, const F& f) {
#pragma omp parallel for schedule(dynamic, 8) num_threads(thread_count(n, 16))
  for (int64_t unit = 0; unit < n; ++unit) f(unit);
}

void integrate(at::Tensor& tsdf, at::Tensor& weight, at::Tensor& color, const at::Tensor& blocks,
               const at::Tensor& depth, const std::optional<at::Tensor>& image,
               const std::optional<at::Tensor>& mask, const at::Tensor& K,
               const at::Tensor& viewmat, at::ArrayRef<double> origin, double voxel_size,
               double trunc, double frame_weight, double max_depth) {
  TORCH_CHECK(tsdf.is_contiguous() && weight.is_contiguous() && color.is_contiguous(),
              "tsdf_integrate_: the volume must be contiguous");
  const at::Tensor b = blocks.contiguous(), d = depth.contiguous();
  const at::Tensor m = mask ? mask->contiguous() : at::Tensor();
  const at::Tensor im = image ? image->contiguous() : at::Tensor();
  const Pose pose(viewmat);
  const int64_t nx = tsdf.size(1), ny = tsdf.size(2), nz = tsdf.size(3), n = tsdf.size(0);
  const int32_t* at_block = b.const_data_ptr<int32_t>();
  AT_DISPATCH_FLOATING_TYPES(tsdf.scalar_type(), "tsdf_integrate_", [&] {
    const auto view = make_view<scalar_t>(d, mask ? &m : nullptr, K, trunc, max_depth,
                                          frame_weight);
    scalar_t *pt = tsdf.data_ptr<scalar_t>(), *pw = weight.data_ptr<scalar_t>();
    scalar_t* pc = image ? color.data_ptr<scalar_t>() : nullptr;
    const scalar_t* pi = image ? im.const_data_ptr<scalar_t>() : nullptr;
    const double half[3] = {0.5 * nx * voxel_size, 0.5 * ny * voxel_size, 0.5 * nz * voxel_size};
    const double radius = std::sqrt(half[0] * half[0] + half[1] * half[1] + half[2] * half[2]);
    // units: planes x of blocks, so that one dense block also gives work to all threads
    for_each_unit(n * nx, [&](int64_t unit) {
      const int64_t block = unit / nx, x = unit % nx;
      const int32_t* c = at_block + 3 * block;
      const double corner[3] = {origin[0] + double(c[0]) * nx * voxel_size,
                                origin[1] + double(c[1]) * ny * voxel_size,
                                origin[2] + double(c[2]) * nz * voxel_size};
      const double middle[3] = {corner[0] + half[0], corner[1] + half[1], corner[2] + half[2]};
      double camera[3];
      pose.to_camera(middle, camera);
      if (!may_see(view, camera, radius)) return;
      for (int64_t y = 0; y < ny; ++y) {
        const double first[3] = {corner[0] + (x + 0.5) * voxel_size,
                                 corner[1] + (y + 0.5) * voxel_size,
                                 corner[2] + 0.5 * voxel_size};
        pose.to_camera(first, camera);
        RowArgs<scalar_t> row;
        row.view = view;
        for (int i = 0; i < 3; ++i) {
          row.base[i] = static_cast<scalar_t>(camera[i]);
          row.step[i] = static_cast<scalar_t>(pose.r[3 * i + 2] * voxel_size);
        }
        const int64_t at = ((block * nx + x) * ny + y) * nz;
        row.n = nz;
        row.tsdf = pt + at;
        row.weight = pw + at;
        row.color = pc ? pc + 3 * at : nullptr;
        row.image = pi;
        dispatch<IntegrateRow<scalar_t>>(row);
      }
    });
  });
}

constexpr int64_t kBlockLimit = int64_t(1) << 20;

int64_t block_key(const int64_t* c) {
  return ((c[0] + kBlockLimit) << 42) | ((c[1] + kBlockLimit) << 21) | (c[2] + kBlockLimit);
}

// Blocks around the segments of all pixel rays between depth - trunc and depth + trunc, with a
// margin of one voxel and half a pixel, so that every cell the surface cuts has its corners.
at::Tensor touched_blocks(const at::Tensor& depth, const std::optional<at::Tensor>& mask,
                          const at::Tensor& K, const at::Tensor& viewmat,
                          at::ArrayRef<double> origin, double voxel_size, double trunc,
                          double max_depth, int64_t block_size) {
  const at::Tensor d = depth.contiguous();
  const at::Tensor m = mask ? mask->contiguous() : at::Tensor();
  const auto view = make_view<double>(d, mask ? &m : nullptr, K, trunc, max_depth, 1.0);
  const Pose pose(viewmat);
  const double edge = voxel_size * static_cast<double>(block_size);
  const int64_t height = d.size(0), width = d.size(1);
  const int threads = thread_count(height, 16);
  std::vector<std::unordered_set<int64_t>> found(threads);
  bool too_far = false;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(|| : too_far)
  for (int t = 0; t < threads; ++t) {
    int64_t lo[3], hi[3], last[6] = {0, 0, 0, -1, -1, -1};
    for (int64_t v = height * t / threads; v < height * (t + 1) / threads; ++v) {
      for (int64_t u = 0; u < width; ++u) {
        const int64_t pixel = v * width + u;
        if (view.mask && !view.mask[pixel]) continue;
        const double z = view.depth[pixel];
        if (!(z > 0 && z <= max_depth) || !std::isfinite(z)) continue;
        const double near = std::max(z - trunc, 0.5 * std::min(z, voxel_size)), far = z + trunc;
        const double ray[3] = {(u + 0.5 - view.cx) / view.fx, (v + 0.5 - view.cy) / view.fy, 1};
        const double length = std::sqrt(ray[0] * ray[0] + ray[1] * ray[1] + 1) * (far - near);
        const int steps = std::max(1, static_cast<int>(std::ceil(2 * length / edge)));
        const double margin = voxel_size + 0.5 * length / steps +
                              0.75 * far * std::max(1 / view.fx, 1 / view.fy);
        for (int s = 0; s < steps; ++s) {
          const double depth_s = near + (far - near) * (s + 0.5) / steps;
          const double c[3] = {ray[0] * depth_s - pose.t[0], ray[1] * depth_s - pose.t[1],
                               depth_s - pose.t[2]};
          for (int i = 0; i < 3; ++i) {
            const double x = pose.r[i] * c[0] + pose.r[3 + i] * c[1] + pose.r[6 + i] * c[2];
            lo[i] = static_cast<int64_t>(std::floor((x - margin - origin[i]) / edge));
            hi[i] = static_cast<int64_t>(std::floor((x + margin - origin[i]) / edge));
            too_far = too_far || lo[i] < -kBlockLimit || hi[i] >= kBlockLimit;
          }
          if (too_far) continue;
          if (std::equal(lo, lo + 3, last) && std::equal(hi, hi + 3, last + 3)) continue;
          std::copy_n(lo, 3, last);
          std::copy_n(hi, 3, last + 3);
          int64_t b[3];
          for (b[0] = lo[0]; b[0] <= hi[0]; ++b[0])
            for (b[1] = lo[1]; b[1] <= hi[1]; ++b[1])
              for (b[2] = lo[2]; b[2] <= hi[2]; ++b[2]) found[t].insert(block_key(b));
        }
      }
    }
  }
  TORCH_CHECK_VALUE(!too_far, "depth: points lie more than 2^20 blocks from the origin; check the"
                    " units and the pose, or set max_depth");
  std::vector<int64_t> keys;
  for (const auto& part : found) keys.insert(keys.end(), part.begin(), part.end());
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  at::Tensor out = at::empty({static_cast<int64_t>(keys.size()), 3}, d.options().dtype(at::kInt));
  int32_t* p = out.data_ptr<int32_t>();
  constexpr int64_t digit = (int64_t(1) << 21) - 1;
  for (size_t i = 0; i < keys.size(); ++i)
    for (int a = 0; a < 3; ++a)
      p[3 * i + a] = static_cast<int32_t>(((keys[i] >> (42 - 21 * a)) & digit) - kBlockLimit);
  return out;
}

}  // namespace
}  // namespace tsdf_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("tsdf_integrate_", &mmc::tsdf_cpu::integrate);
  m.impl("tsdf_touched_blocks", &mmc::tsdf_cpu::touched_blocks);
}
