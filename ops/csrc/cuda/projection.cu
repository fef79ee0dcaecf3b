// Projection of Gaussians into cameras, dense and packed, and its gradients.
#include "cuda/projection.h"

#include "cuda/common.cuh"
#include "math/projection.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;
constexpr int kBackwardThreads = 128;

struct Shape {  // a Gaussian's extent as it was given
  Quat<float> quat;
  Vec3<float> scale;
  Sym3<float> covar;
};

template <bool HasCovar>
__device__ __forceinline__ Shape load_shape(const ProjectionIn& in, int64_t g) {
  Shape s{};
  if (HasCovar) {
    s.covar = load_symmetric(in.covars + 9 * g);
  } else {
    s.quat = load_quat(in.quats + 4 * g);
    s.scale = load_vec(in.scales + 3 * g);
  }
  return s;
}

__device__ __forceinline__ Camera<float> load_camera(const ProjectionIn& in, int64_t image) {
  return make_camera<float, float>(in.viewmats + 16 * image, in.Ks + 9 * image, in.width,
                                   in.height);
}

// Projection and radii of Gaussian g (over batches) in one image.
template <int Model, bool HasCovar>
__device__ __forceinline__ Radii project_one(const ProjectionIn& in, int64_t image, int64_t g,
                                             Projected<float>& p) {
  const Camera<float> cam = load_camera(in, image);
  const ProjParams<float> par{in.eps2d, in.near_plane, in.far_plane, in.radius_clip};
  const Shape s = load_shape<HasCovar>(in, g);
  const Vec3<float> mean = load_vec(in.means + 3 * g);
  if constexpr (HasCovar)
    p = project_fwd<float, Model>(cam, par, mean, s.covar);
  else
    p = project_fwd<float, Model>(cam, par, mean, s.quat, s.scale);
  if (!(p.valid > 0.0f)) return {0, 0};
  const bool with_opacity = in.opacities != nullptr;
  float opacity = 1.0f;
  if (with_opacity) opacity = in.opacities[g] * (in.compensate ? p.compensation : 1.0f);
  return screen_radii(cam, par, p, with_opacity, opacity);
}

__device__ __forceinline__ void write_row(const ProjectionRows& out, int64_t row, const Radii& r,
                                          const Projected<float>& p) {
  const bool keep = r.x > 0;
  out.radii[2 * row] = r.x;
  out.radii[2 * row + 1] = r.y;
  out.means2d[2 * row] = keep ? p.u : 0.0f;
  out.means2d[2 * row + 1] = keep ? p.v : 0.0f;
  out.depths[row] = keep ? p.depth : 0.0f;
  out.conics[3 * row] = keep ? p.conic_a : 0.0f;
  out.conics[3 * row + 1] = keep ? p.conic_b : 0.0f;
  out.conics[3 * row + 2] = keep ? p.conic_c : 0.0f;
  if (out.compensations) out.compensations[row] = keep ? p.compensation : 0.0f;
}

template <int Model, bool HasCovar>
__global__ __launch_bounds__(kThreads) void dense_kernel(ProjectionIn in, ProjectionRows out) {
  const int64_t row = thread_index();
  if (row >= in.B * in.C * in.N) return;
  const int64_t image = row / in.N, g = image / in.C * in.N + row % in.N;
  Projected<float> p;
  const Radii r = project_one<Model, HasCovar>(in, image, g, p);
  write_row(out, row, r, p);
}

template <int Model, bool HasCovar>
__global__ __launch_bounds__(kThreads) void visible_kernel(ProjectionIn in, int32_t* visible) {
  const int64_t row = thread_index();
  if (row >= in.B * in.C * in.N) return;
  const int64_t image = row / in.N, g = image / in.C * in.N + row % in.N;
  Projected<float> p;
  visible[row] = project_one<Model, HasCovar>(in, image, g, p).x > 0;
}

template <int Model, bool HasCovar>
__global__ __launch_bounds__(kThreads) void packed_kernel(ProjectionIn in, const int32_t* visible,
                                                          const int64_t* positions, PackedIds ids,
                                                          ProjectionRows out) {
  const int64_t row = thread_index();
  if (row >= in.B * in.C * in.N || !visible[row]) return;
  const int64_t image = row / in.N, n = row % in.N, at = positions[row];
  Projected<float> p;
  const Radii r = project_one<Model, HasCovar>(in, image, image / in.C * in.N + n, p);
  ids.batch[at] = image / in.C;
  ids.camera[at] = image % in.C;
  ids.gaussian[at] = n;
  write_row(out, at, r, p);
}

// ------------------------------------------------------------------ backward

__device__ __forceinline__ ProjGrad<float> load_grads(const ProjectionGrads& v, int64_t row) {
  ProjGrad<float> g{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  if (v.means2d) {
    g.u = v.means2d[2 * row];
    g.v = v.means2d[2 * row + 1];
  }
  if (v.depths) g.depth = v.depths[row];
  if (v.conics) {
    g.conic_a = v.conics[3 * row];
    g.conic_b = v.conics[3 * row + 1];
    g.conic_c = v.conics[3 * row + 2];
  }
  if (v.compensations) g.compensation = v.compensations[row];
  return g;
}

// Gradients of one Gaussian: those of the mean, then of the covariance or of both others.
enum Sum { kMean, kCovar = kMean + 3, kCovarSums = kCovar + 9 };
enum { kQuat = kMean + 3, kScale = kQuat + 4, kShapeSums = kScale + 3 };
static_assert((kShapeSums - kQuat) * sizeof(float) == sizeof(RotScaleGrad<float>));
template <bool HasCovar>
struct GaussianSums {
  float v[HasCovar ? int(kCovarSums) : int(kShapeSums)];
};

template <int Model, bool HasCovar>
__device__ __forceinline__ void backward_one(const ProjectionIn& in, int64_t image, int64_t g,
                                             const ProjGrad<float>& grad,
                                             GaussianSums<HasCovar>& sums, float* pose) {
  const Camera<float> cam = load_camera(in, image);
  const Shape s = load_shape<HasCovar>(in, g);
  const Vec3<float> mean = load_vec(in.means + 3 * g);
  PointGrad<float> point;
  if constexpr (HasCovar) {
    const CovarGrad<float> o = project_vjp<float, Model>(cam, in.eps2d, mean, s.covar, grad);
    point = o.point;
#pragma unroll
    for (int k = 0; k < 9; ++k) sums.v[kCovar + k] += o.covar.m[k / 3][k % 3];
  } else {
    const QuatScaleGrad<float> o =
        project_vjp<float, Model>(cam, in.eps2d, mean, s.quat, s.scale, grad);
    point = o.point;
    const float part[] = {o.shape.quat.w,  o.shape.quat.x,  o.shape.quat.y, o.shape.quat.z,
                          o.shape.scale.x, o.shape.scale.y, o.shape.scale.z};
#pragma unroll
    for (int k = kQuat; k < kShapeSums; ++k) sums.v[k] += part[k - kQuat];
  }
  sums.v[kMean] += point.mean.x;
  sums.v[kMean + 1] += point.mean.y;
  sums.v[kMean + 2] += point.mean.z;
#pragma unroll
  for (int k = 0; k < 9; ++k) pose[kRotation + k] = point.cam.r.m[k / 3][k % 3];
  pose[kShift] = point.cam.t.x;
  pose[kShift + 1] = point.cam.t.y;
  pose[kShift + 2] = point.cam.t.z;
}

// put(target, value) for all gradients of the Gaussian (or row) at index n.
template <bool HasCovar, typename Put>
__device__ __forceinline__ void put_sums(const ProjectionGradOut& out, int64_t n,
                                         const GaussianSums<HasCovar>& sums, const Put& put) {
#pragma unroll
  for (int k = 0; k < 3; ++k) put(out.means + 3 * n + k, sums.v[kMean + k]);
  if constexpr (HasCovar) {
#pragma unroll
    for (int k = 0; k < 9; ++k) put(out.covars + 9 * n + k, sums.v[kCovar + k]);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k) put(out.quats + 4 * n + k, sums.v[kQuat + k]);
#pragma unroll
    for (int k = 0; k < 3; ++k) put(out.scales + 3 * n + k, sums.v[kScale + k]);
  }
}

// blockIdx.y is the batch. Pose gradients are reduced over the block, once per camera.
template <int Model, bool HasCovar>
__global__ __launch_bounds__(kBackwardThreads) void dense_bwd_kernel(ProjectionIn in,
                                                                     const int32_t* radii,
                                                                     ProjectionGrads v,
                                                                     ProjectionGradOut out) {
  __shared__ double scratch[kBackwardThreads / kWarp];
  const int64_t n = thread_index(), b = blockIdx.y;
  GaussianSums<HasCovar> sums{};
  for (int64_t c = 0; c < in.C; ++c) {
    const int64_t image = b * in.C + c, row = image * in.N + n;
    const bool on = n < in.N && radii[2 * row] > 0;
    float pose[kPose] = {};
    if (on)
      backward_one<Model, HasCovar>(in, image, b * in.N + n, load_grads(v, row), sums, pose);
    if (!out.pose) continue;
    double* target = out.pose + (int64_t(blockIdx.x) * in.B * in.C + image) * kPose;
    if (!__syncthreads_or(on)) {
      if (threadIdx.x < kPose) target[threadIdx.x] = 0.0;
      continue;
    }
#pragma unroll
    for (int k = 0; k < kPose; ++k) {
      const double sum = block_sum<double>(pose[k], scratch);
      if (threadIdx.x == 0) target[k] = sum;
    }
  }
  if (n < in.N)
    put_sums<HasCovar>(out, b * in.N + n, sums, [](float* p, float x) { *p = x; });
}

template <int Model, bool HasCovar>
__global__ __launch_bounds__(kBackwardThreads) void packed_bwd_kernel(
    ProjectionIn in, const int64_t* gaussian_ids, const int64_t* indptr, int64_t rows,
    RowSums mode, ProjectionGrads v, ProjectionGradOut out) {
  __shared__ double scratch[kBackwardThreads / kWarp];
  __shared__ int64_t span[2];  // images of the first and the last row of the block
  const int64_t row = thread_index(), images = in.B * in.C;
  const bool on = row < rows;
  // The last image that starts at or before the row.
  const int64_t image = on ? lower_bound(indptr + 1, images, row + 1) : 0;
  GaussianSums<HasCovar> sums{};
  float pose[kPose] = {};
  if (on) {
    const int64_t g = image / in.C * in.N + gaussian_ids[row];
    backward_one<Model, HasCovar>(in, image, g, load_grads(v, row), sums, pose);
    if (mode == RowSums::kAtomic)
      put_sums<HasCovar>(out, g, sums, [](float* p, float x) { atomicAdd(p, x); });
    else
      put_sums<HasCovar>(out, mode == RowSums::kPerRow ? row : g, sums,
                         [](float* p, float x) { *p = x; });
  }
  if (!out.pose) return;
  if (mode == RowSums::kPerRow) {
    if (on)
      for (int k = 0; k < kPose; ++k) out.pose[row * kPose + k] = pose[k];
    return;
  }
  if (threadIdx.x == 0) span[0] = image;
  if (on && (threadIdx.x == blockDim.x - 1 || row == rows - 1)) span[1] = image;
  __syncthreads();
  for (int64_t i = span[0]; i <= span[1]; ++i) {
    if (!__syncthreads_or(on && image == i)) continue;
#pragma unroll
    for (int k = 0; k < kPose; ++k) {
      const double sum = block_sum<double>(on && image == i ? pose[k] : 0.0, scratch);
      if (threadIdx.x == 0) atomicAdd(out.pose + i * kPose + k, sum);
    }
  }
}

// f(model, has_covar) with compile-time constants.
template <typename F>
cudaError_t with_kind(const ProjectionIn& in, const F& f) {
  using Yes = std::integral_constant<bool, true>;
  using No = std::integral_constant<bool, false>;
  const auto pick = [&](auto model) {
    if (in.covars)
      f(model, Yes());
    else
      f(model, No());
  };
  if (in.model == kPinhole)
    pick(std::integral_constant<int, kPinhole>());
  else if (in.model == kOrtho)
    pick(std::integral_constant<int, kOrtho>());
  else
    pick(std::integral_constant<int, kFisheye>());
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_project_dense(const ProjectionIn& in, const ProjectionRows& out,
                                 cudaStream_t stream) {
  const int64_t n = in.B * in.C * in.N;
  if (n == 0) return cudaSuccess;
  return with_kind(in, [&](auto model, auto covar) {
    dense_kernel<decltype(model)::value, decltype(covar)::value>
        <<<blocks_for(n, kThreads), kThreads, 0, stream>>>(in, out);
  });
}

cudaError_t launch_project_visible(const ProjectionIn& in, int32_t* visible,
                                   cudaStream_t stream) {
  const int64_t n = in.B * in.C * in.N;
  if (n == 0) return cudaSuccess;
  return with_kind(in, [&](auto model, auto covar) {
    visible_kernel<decltype(model)::value, decltype(covar)::value>
        <<<blocks_for(n, kThreads), kThreads, 0, stream>>>(in, visible);
  });
}

cudaError_t launch_project_packed(const ProjectionIn& in, const int32_t* visible,
                                  const int64_t* positions, const PackedIds& ids,
                                  const ProjectionRows& out, cudaStream_t stream) {
  const int64_t n = in.B * in.C * in.N;
  if (n == 0) return cudaSuccess;
  return with_kind(in, [&](auto model, auto covar) {
    packed_kernel<decltype(model)::value, decltype(covar)::value>
        <<<blocks_for(n, kThreads), kThreads, 0, stream>>>(in, visible, positions, ids, out);
  });
}

int64_t project_dense_blocks(int64_t n_gaussians) {
  return blocks_for(n_gaussians, kBackwardThreads);
}

cudaError_t launch_project_dense_bwd(const ProjectionIn& in, const int32_t* radii,
                                     const ProjectionGrads& v, const ProjectionGradOut& out,
                                     cudaStream_t stream) {
  if (in.N == 0 || in.B == 0) return cudaSuccess;
  const dim3 grid(blocks_for(in.N, kBackwardThreads), static_cast<unsigned>(in.B));
  return with_kind(in, [&](auto model, auto covar) {
    dense_bwd_kernel<decltype(model)::value, decltype(covar)::value>
        <<<grid, kBackwardThreads, 0, stream>>>(in, radii, v, out);
  });
}

cudaError_t launch_project_packed_bwd(const ProjectionIn& in, const int64_t* gaussian_ids,
                                      const int64_t* indptr, int64_t rows, RowSums sums,
                                      const ProjectionGrads& v, const ProjectionGradOut& out,
                                      cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return with_kind(in, [&](auto model, auto covar) {
    packed_bwd_kernel<decltype(model)::value, decltype(covar)::value>
        <<<blocks_for(rows, kBackwardThreads), kBackwardThreads, 0, stream>>>(
            in, gaussian_ids, indptr, rows, sums, v, out);
  });
}

}  // namespace mmc
