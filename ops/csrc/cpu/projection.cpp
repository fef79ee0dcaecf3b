// Projection on the CPU: chunks of Gaussians, sixteen lanes at a time.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "math/projection.h"

namespace mmc {
namespace projection_cpu {

using OptTensor = std::optional<at::Tensor>;
constexpr int L = kLanes16;
constexpr int kPoseTerms = 12;

template <typename T>
struct World {  // pointers to one batch
  const T *means, *quats, *scales;  // [N, 3], [N, 4], [N, 3]
  const T *covars, *opacities;      // [N, 3, 3] or null, [N] or null
};

// Rows of sixteen numbers that the kernels read.
enum In { kMean, kQuat = kMean + 3, kScale = kQuat + 4, kCovar = kScale + 3, kIns = kCovar + 6 };

template <typename T>
struct Lanes {  // sixteen Gaussians
  T rows[kIns][L];

  void load(const World<T>& w, const int64_t* index) {
    for (int l = 0; l < L; ++l) {
      const int64_t n = index[l];
      for (int k = 0; k < 3; ++k) rows[kMean + k][l] = w.means[3 * n + k];
      if (w.covars) {
        const Sym3<T> c = load_symmetric(w.covars + 9 * n);
        const T upper[] = {c.xx, c.xy, c.xz, c.yy, c.yz, c.zz};
        static_assert(kCovar + sizeof(upper) / sizeof(T) == kIns);
        for (int k = kCovar; k < kIns; ++k) rows[k][l] = upper[k - kCovar];
      } else {
        for (int k = 0; k < 4; ++k) rows[kQuat + k][l] = w.quats[4 * n + k];
        for (int k = 0; k < 3; ++k) rows[kScale + k][l] = w.scales[3 * n + k];
      }
    }
  }
};

#define MMC_INLINE __attribute__((always_inline))
#define MMC_VEC(row) {in[(row) * L + l], in[((row) + 1) * L + l], in[((row) + 2) * L + l]}
#define MMC_QUAT(row)                                                                        \
  {in[(row) * L + l], in[((row) + 1) * L + l], in[((row) + 2) * L + l], in[((row) + 3) * L + l]}
#define MMC_SYM(row)                                                                         \
  {in[(row) * L + l],       in[((row) + 1) * L + l], in[((row) + 2) * L + l],                \
   in[((row) + 3) * L + l], in[((row) + 4) * L + l], in[((row) + 5) * L + l]}

// ------------------------------------------------------------------ forward

template <typename T>
struct ForwardArgs {
  World<T> world;
  const Camera<T>* cam;
  ProjParams<T> par;
  bool compensate_opacity;
  const int64_t* index;  // Gaussians to project, or null for begin, begin + 1, ...
  int64_t begin, count;
  int32_t* radii;             // [count, 2]; all outputs but this one may be null
  T *means2d, *depths;        // [count, 2], [count]
  T *conics, *compensations;  // [count, 3], [count]
};

// Rows that the forward kernel writes.
enum Out { kU, kV, kDepth, kConic, kRho = kConic + 3, kCovXX, kCovYY, kValid, kOuts };
static_assert(kOuts * sizeof(float) == sizeof(Projected<float>));

// Only the loop over lanes is compiled for each instruction set. It sees rows as one block of
// numbers: through structs GCC does not vectorize it.
template <typename T, int Model, bool HasCovar>
struct ForwardKernel {
  static MMC_HD void run(const Camera<T>* camera, const ProjParams<T>* params,
                         const T* __restrict in, T* __restrict out) {
    const Camera<T> cam = *camera;
    const ProjParams<T> par = *params;
#pragma omp simd
    for (int l = 0; l < L; ++l) {
      const Projected<T> p = [&]() MMC_INLINE {
        if constexpr (HasCovar)
          return project_fwd<T, Model>(cam, par, Vec3<T>MMC_VEC(kMean), Sym3<T>MMC_SYM(kCovar));
        else
          return project_fwd<T, Model>(cam, par, Vec3<T>MMC_VEC(kMean), Quat<T>MMC_QUAT(kQuat),
                                       Vec3<T>MMC_VEC(kScale));
      }();
      out[kU * L + l] = p.u;
      out[kV * L + l] = p.v;
      out[kDepth * L + l] = p.depth;
      out[kConic * L + l] = p.conic_a;
      out[(kConic + 1) * L + l] = p.conic_b;
      out[(kConic + 2) * L + l] = p.conic_c;
      out[kRho * L + l] = p.compensation;
      out[kCovXX * L + l] = p.cov_xx;
      out[kCovYY * L + l] = p.cov_yy;
      out[kValid * L + l] = p.valid;
    }
  }
};

// Rows of the backward kernel: gradients of the outputs up to kRho, then those of the inputs, and
// running sums of the pose's.
enum Grad {
  kGradMean = kRho + 1,
  kGradQuat = kGradMean + 3,
  kGradScale = kGradQuat + 4,
  kGradCovar = kGradScale + 3,
  kGradRotation = kGradCovar + 9,
  kGradShift = kGradRotation + 9,
  kGrads = kGradShift + 3
};
static_assert(kGradMean * sizeof(float) == sizeof(ProjGrad<float>));
static_assert(kGrads - kGradRotation == kPoseTerms);

template <typename T, int Model, bool HasCovar>
struct BackwardKernel {
  static MMC_HD void run(const Camera<T>* camera, const ProjParams<T>* params,
                         const T* __restrict in, T* __restrict out) {
    const Camera<T> cam = *camera;
    const T eps2d = params->eps2d;
#pragma omp simd
    for (int l = 0; l < L; ++l) {
      const ProjGrad<T> g{out[kU * L + l],           out[kV * L + l],
                          out[kDepth * L + l],       out[kConic * L + l],
                          out[(kConic + 1) * L + l], out[(kConic + 2) * L + l],
                          out[kRho * L + l]};
      const PointGrad<T> point = [&]() MMC_INLINE {
        if constexpr (HasCovar) {
          const CovarGrad<T> o = project_vjp<T, Model>(cam, eps2d, Vec3<T>MMC_VEC(kMean),
                                                       Sym3<T>MMC_SYM(kCovar), g);
#pragma GCC unroll 9
          for (int k = 0; k < 9; ++k) out[(kGradCovar + k) * L + l] = o.covar.m[k / 3][k % 3];
          return o.point;
        } else {
          const QuatScaleGrad<T> o = project_vjp<T, Model>(
              cam, eps2d, Vec3<T>MMC_VEC(kMean), Quat<T>MMC_QUAT(kQuat),
              Vec3<T>MMC_VEC(kScale), g);
          out[kGradQuat * L + l] = o.shape.quat.w;
          out[(kGradQuat + 1) * L + l] = o.shape.quat.x;
          out[(kGradQuat + 2) * L + l] = o.shape.quat.y;
          out[(kGradQuat + 3) * L + l] = o.shape.quat.z;
          out[kGradScale * L + l] = o.shape.scale.x;
          out[(kGradScale + 1) * L + l] = o.shape.scale.y;
          out[(kGradScale + 2) * L + l] = o.shape.scale.z;
          return o.point;
        }
      }();
      out[kGradMean * L + l] = point.mean.x;
      out[(kGradMean + 1) * L + l] = point.mean.y;
      out[(kGradMean + 2) * L + l] = point.mean.z;
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) out[(kGradRotation + k) * L + l] += point.cam.r.m[k / 3][k % 3];
      out[kGradShift * L + l] += point.cam.t.x;
      out[(kGradShift + 1) * L + l] += point.cam.t.y;
      out[(kGradShift + 2) * L + l] += point.cam.t.z;
    }
  }
};

// Vector code for the common case; the rest runs as the compiler's baseline.
template <template <typename, int, bool> class Kernel, typename T>
void run_kernel(int model, bool has_covar, const Camera<T>* cam, const ProjParams<T>* par,
                const T* in, T* out) {
  if constexpr (std::is_same_v<T, float>) {
    if (model == kPinhole) {
      if (has_covar)
        dispatch<Kernel<T, kPinhole, true>>(cam, par, in, out);
      else
        dispatch<Kernel<T, kPinhole, false>>(cam, par, in, out);
      return;
    }
  }
  if (has_covar) {
    if (model == kPinhole) run_baseline<Kernel<T, kPinhole, true>>(cam, par, in, out);
    if (model == kOrtho) run_baseline<Kernel<T, kOrtho, true>>(cam, par, in, out);
    if (model == kFisheye) run_baseline<Kernel<T, kFisheye, true>>(cam, par, in, out);
  } else {
    if (model == kPinhole) run_baseline<Kernel<T, kPinhole, false>>(cam, par, in, out);
    if (model == kOrtho) run_baseline<Kernel<T, kOrtho, false>>(cam, par, in, out);
    if (model == kFisheye) run_baseline<Kernel<T, kFisheye, false>>(cam, par, in, out);
  }
}

template <typename T>
void forward_chunk(int model, const ForwardArgs<T>& a) {
  Lanes<T> in;
  T o[kOuts][L];
  for (int64_t start = 0; start < a.count; start += L) {
    const int used = static_cast<int>(std::min<int64_t>(L, a.count - start));
    int64_t index[L];
    for (int l = 0; l < L; ++l) {
      const int64_t i = start + (l < used ? l : used - 1);
      index[l] = a.index ? a.index[i] : a.begin + i;
    }
    in.load(a.world, index);
    run_kernel<ForwardKernel, T>(model, a.world.covars, a.cam, &a.par, in.rows[0], o[0]);
    for (int l = 0; l < used; ++l) {
      Projected<T> p;
      p.u = o[kU][l];
      p.v = o[kV][l];
      p.cov_xx = o[kCovXX][l];
      p.cov_yy = o[kCovYY][l];
      Radii r{0, 0};
      if (o[kValid][l] > T(0)) {
        T opacity = T(1);
        if (a.world.opacities)
          opacity = a.world.opacities[index[l]] * (a.compensate_opacity ? o[kRho][l] : T(1));
        r = screen_radii(*a.cam, a.par, p, a.world.opacities != nullptr, opacity);
      }
      const int64_t n = start + l;
      const bool keep = r.x > 0;
      a.radii[2 * n] = r.x;
      a.radii[2 * n + 1] = r.y;
      if (!a.means2d) continue;
      a.means2d[2 * n] = keep ? o[kU][l] : T(0);
      a.means2d[2 * n + 1] = keep ? o[kV][l] : T(0);
      a.depths[n] = keep ? o[kDepth][l] : T(0);
      a.conics[3 * n] = keep ? o[kConic][l] : T(0);
      a.conics[3 * n + 1] = keep ? o[kConic + 1][l] : T(0);
      a.conics[3 * n + 2] = keep ? o[kConic + 2][l] : T(0);
      if (a.compensations) a.compensations[n] = keep ? o[kRho][l] : T(0);
    }
  }
}

// ------------------------------------------------------------------ backward

template <typename T>
struct BackwardArgs {
  World<T> world;
  const Camera<T>* cam;
  T eps2d;
  const RowList* rows;
  const T *v_means2d, *v_depths;         // [rows, 2], [rows], or null
  const T *v_conics, *v_compensations;   // [rows, 3], [rows], or null
  T *v_means, *v_covars;                 // [N, 3], [N, 3, 3]: added to at the Gaussian, or
  T *v_quats, *v_scales;                 // [N, 4], [N, 3]: set at the row
  bool per_row;
  double* pose;  // 12 sums of this chunk and camera, or null
};

template <typename T>
void backward_chunk(int model, const BackwardArgs<T>& a) {
  const ProjParams<T> par{a.eps2d, T(0), T(0), T(0)};
  Lanes<T> in;
  T o[kGrads][L];
  std::fill_n(o[kGradRotation], kPoseTerms * L, T(0));
  const auto load = [&](const T* source, int width, int k, const int64_t* row, int used, T* to) {
    for (int l = 0; l < L; ++l)  // padding lanes carry no gradient
      to[l] = source && l < used ? source[width * row[l] + k] : T(0);
  };
  for (int start = 0; start < a.rows->count; start += L) {
    const int used = std::min(L, a.rows->count - start);
    int64_t index[L], row[L];
    for (int l = 0; l < L; ++l) {
      const int i = start + (l < used ? l : used - 1);
      index[l] = a.rows->gaussian[i];
      row[l] = a.rows->row[i];
    }
    in.load(a.world, index);
    load(a.v_means2d, 2, 0, row, used, o[kU]);
    load(a.v_means2d, 2, 1, row, used, o[kV]);
    load(a.v_depths, 1, 0, row, used, o[kDepth]);
    for (int k = 0; k < 3; ++k) load(a.v_conics, 3, k, row, used, o[kConic + k]);
    load(a.v_compensations, 1, 0, row, used, o[kRho]);
    run_kernel<BackwardKernel, T>(model, a.world.covars, a.cam, &par, in.rows[0], o[0]);
    for (int l = 0; l < used; ++l) {
      const int64_t n = a.per_row ? row[l] : index[l];
      for (int k = 0; k < 3; ++k) a.v_means[3 * n + k] += o[kGradMean + k][l];
      if (a.world.covars) {
        for (int k = 0; k < 9; ++k) a.v_covars[9 * n + k] += o[kGradCovar + k][l];
      } else {
        for (int k = 0; k < 4; ++k) a.v_quats[4 * n + k] += o[kGradQuat + k][l];
        for (int k = 0; k < 3; ++k) a.v_scales[3 * n + k] += o[kGradScale + k][l];
      }
    }
  }
  if (!a.pose) return;
  for (int k = 0; k < kPoseTerms; ++k) {
    double sum = 0;
    for (int l = 0; l < L; ++l) sum += o[kGradRotation + k][l];
    a.pose[k] = sum;
  }
}

// ------------------------------------------------------------------ operators

// Contiguous inputs and sizes that both directions share.
struct Inputs {
  at::Tensor means, covars, quats, scales, viewmats, Ks, opacities;
  std::vector<int64_t> lead;  // batch sizes
  int64_t B, N, C, chunks;

  Inputs(const at::Tensor& m, const OptTensor& cov, const OptTensor& q, const OptTensor& s,
         const at::Tensor& v, const at::Tensor& k, const OptTensor& o)
      : means(m.contiguous()),
        covars(dense_of(cov)),
        quats(dense_of(q)),
        scales(dense_of(s)),
        viewmats(v.contiguous()),
        Ks(k.contiguous()),
        opacities(dense_of(o)),
        lead(lead_sizes(m, 2)) {
    B = product(lead);
    N = means.size(-2);
    C = viewmats.size(-3);
    chunks = (N + kChunk - 1) / kChunk;
    TORCH_CHECK(covars.defined() || (quats.defined() && scales.defined()),
                "project: expected covars, or quats and scales");
  }

  template <typename T>
  World<T> world(int64_t b) const {
    const auto at_batch = [&](const at::Tensor& t, int64_t width) {
      const T* p = data_or_null<T>(t);
      return p ? p + b * N * width : nullptr;
    };
    return {at_batch(means, 3), at_batch(quats, 4), at_batch(scales, 3), at_batch(covars, 9),
            at_batch(opacities, 1)};
  }

  template <typename T>
  std::vector<Camera<T>> cameras(int64_t width, int64_t height) const {
    std::vector<Camera<T>> out;
    for (int64_t i = 0; i < B * C; ++i)
      out.push_back(make_camera<T, T>(viewmats.const_data_ptr<T>() + 16 * i,
                                      Ks.const_data_ptr<T>() + 9 * i, T(width), T(height)));
    return out;
  }
};

using Dense = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

Dense project_fwd_cpu(const at::Tensor& means, const OptTensor& covars, const OptTensor& quats,
                      const OptTensor& scales, const at::Tensor& viewmats, const at::Tensor& Ks,
                      const OptTensor& opacities, int64_t width, int64_t height, double eps2d,
                      double near_plane, double far_plane, double radius_clip,
                      bool calc_compensations, int64_t model) {
  const Inputs in(means, covars, quats, scales, viewmats, Ks, opacities);
  const auto options = in.means.options();
  const at::Tensor radii = at::empty(join(in.lead, {in.C, in.N, 2}), options.dtype(at::kInt));
  const at::Tensor means2d = at::empty(join(in.lead, {in.C, in.N, 2}), options);
  const at::Tensor depths = at::empty(join(in.lead, {in.C, in.N}), options);
  const at::Tensor conics = at::empty(join(in.lead, {in.C, in.N, 3}), options);
  const at::Tensor comps =
      calc_compensations ? at::empty(join(in.lead, {in.C, in.N}), options) : at::empty({0}, options);
  if (radii.numel() == 0) return {radii, means2d, depths, conics, comps};
  AT_DISPATCH_FLOATING_TYPES(in.means.scalar_type(), "project_fwd", [&] {
    using T = scalar_t;
    const auto cameras = in.cameras<T>(width, height);
    const ProjParams<T> par{T(eps2d), T(near_plane), T(far_plane), T(radius_clip)};
    T* comp = mutable_or_null<T>(comps);
    parallel_ranges(in.B * in.chunks, 4, 1, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        const int64_t b = task / in.chunks, n0 = task % in.chunks * kChunk;
        for (int64_t c = 0; c < in.C; ++c) {
          const int64_t o = (b * in.C + c) * in.N + n0;
          const ForwardArgs<T> args{in.world<T>(b),
                                    &cameras[b * in.C + c],
                                    par,
                                    calc_compensations,
                                    nullptr,
                                    n0,
                                    std::min(kChunk, in.N - n0),
                                    radii.data_ptr<int32_t>() + 2 * o,
                                    means2d.data_ptr<T>() + 2 * o,
                                    depths.data_ptr<T>() + o,
                                    conics.data_ptr<T>() + 3 * o,
                                    comp ? comp + o : nullptr};
          forward_chunk<T>(static_cast<int>(model), args);
        }
      }
    });
  });
  return {radii, means2d, depths, conics, comps};
}

using Packed = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                          at::Tensor, at::Tensor, at::Tensor>;

Packed project_packed_fwd_cpu(const at::Tensor& means, const OptTensor& covars,
                              const OptTensor& quats, const OptTensor& scales,
                              const at::Tensor& viewmats, const at::Tensor& Ks,
                              const OptTensor& opacities, int64_t width, int64_t height,
                              double eps2d, double near_plane, double far_plane,
                              double radius_clip, bool calc_compensations, int64_t model) {
  const Inputs in(means, covars, quats, scales, viewmats, Ks, opacities);
  const auto options = in.means.options();
  const auto longs = options.dtype(at::kLong);
  const int64_t images = in.B * in.C;
  const at::Tensor indptr = at::zeros({images + 1}, longs);
  at::Tensor ids[3], radii, means2d, depths, conics, comps;
  AT_DISPATCH_FLOATING_TYPES(in.means.scalar_type(), "project_packed_fwd", [&] {
    using T = scalar_t;
    const auto cameras = in.cameras<T>(width, height);
    const ProjParams<T> par{T(eps2d), T(near_plane), T(far_plane), T(radius_clip)};
    // first pass: which Gaussians are visible; second: their outputs, in order
    const at::Tensor dense = at::empty({images, in.N, 2}, options.dtype(at::kInt));
    int32_t* dense_radii = dense.data_ptr<int32_t>();
    std::vector<int64_t> offset(images * in.chunks + 1, 0);
    parallel_ranges(in.B * in.chunks, 4, 1, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        const int64_t b = task / in.chunks, chunk = task % in.chunks, n0 = chunk * kChunk;
        const int64_t count = std::min(kChunk, in.N - n0);
        for (int64_t i = b * in.C; i < (b + 1) * in.C; ++i) {
          int32_t* out = dense_radii + 2 * (i * in.N + n0);
          const ForwardArgs<T> args{in.world<T>(b), &cameras[i], par,     calc_compensations,
                                    nullptr,        n0,          count,   out,
                                    nullptr,        nullptr,     nullptr, nullptr};
          forward_chunk<T>(static_cast<int>(model), args);
          int64_t visible = 0;
          for (int64_t n = 0; n < count; ++n) visible += out[2 * n] > 0;
          offset[i * in.chunks + chunk + 1] = visible;
        }
      }
    });
    for (size_t k = 1; k < offset.size(); ++k) offset[k] += offset[k - 1];
    const int64_t nnz = offset.back();
    for (int64_t i = 0; i <= images; ++i)
      indptr.data_ptr<int64_t>()[i] = in.chunks ? offset[i * in.chunks] : 0;
    for (auto& t : ids) t = at::empty({nnz}, longs);
    radii = at::empty({nnz, 2}, options.dtype(at::kInt));
    means2d = at::empty({nnz, 2}, options);
    depths = at::empty({nnz}, options);
    conics = at::empty({nnz, 3}, options);
    comps = at::empty({calc_compensations ? nnz : 0}, options);
    T* comp = calc_compensations ? comps.data_ptr<T>() : nullptr;
    parallel_ranges(images * in.chunks, 4, 1, [&](int64_t first, int64_t last) {
      RowList list;
      for (int64_t task = first; task < last; ++task) {
        const int64_t i = task / in.chunks, n0 = task % in.chunks * kChunk, o = offset[task];
        list_dense(list, dense_radii, nullptr, i * in.N, n0, std::min(in.N, n0 + kChunk));
        if (!list.count) continue;
        const ForwardArgs<T> args{in.world<T>(i / in.C),
                                  &cameras[i],
                                  par,
                                  calc_compensations,
                                  list.gaussian,
                                  0,
                                  list.count,
                                  radii.data_ptr<int32_t>() + 2 * o,
                                  means2d.data_ptr<T>() + 2 * o,
                                  depths.data_ptr<T>() + o,
                                  conics.data_ptr<T>() + 3 * o,
                                  comp ? comp + o : nullptr};
        forward_chunk<T>(static_cast<int>(model), args);
        for (int k = 0; k < list.count; ++k) {
          ids[0].data_ptr<int64_t>()[o + k] = i / in.C;
          ids[1].data_ptr<int64_t>()[o + k] = i % in.C;
          ids[2].data_ptr<int64_t>()[o + k] = list.gaussian[k];
        }
      }
    });
  });
  return {ids[0], ids[1], ids[2], indptr, radii, means2d, depths, conics, comps};
}

Dense project_bwd_cpu(const at::Tensor& means, const OptTensor& covars, const OptTensor& quats,
                      const OptTensor& scales, const at::Tensor& viewmats, const at::Tensor& Ks,
                      const at::Tensor& radii, const OptTensor& gaussian_ids,
                      const OptTensor& indptr, int64_t width, int64_t height, double eps2d,
                      int64_t model, const OptTensor& v_means2d, const OptTensor& v_depths,
                      const OptTensor& v_conics, const OptTensor& v_compensations,
                      bool need_viewmats, bool per_row) {
  const Inputs in(means, covars, quats, scales, viewmats, Ks, std::nullopt);
  const auto options = in.means.options();
  const at::Tensor dense_radii = radii.contiguous(), ids = dense_of(gaussian_ids);
  const at::Tensor pointers = dense_of(indptr);
  const at::Tensor gm = dense_of(v_means2d), gd = dense_of(v_depths), gc = dense_of(v_conics);
  const at::Tensor gr = dense_of(v_compensations);
  const bool has_covar = in.covars.defined(), packed = ids.defined();
  const auto rows = per_row ? std::vector<int64_t>{ids.numel()} : join(in.lead, {in.N});
  const auto make = [&](bool wanted, std::initializer_list<int64_t> tail) {
    return wanted ? at::zeros(join(rows, tail), options) : at::empty({0}, options);
  };
  const at::Tensor o_means = make(true, {3}), o_covars = make(has_covar, {3, 3});
  const at::Tensor o_quats = make(!has_covar, {4}), o_scales = make(!has_covar, {3});
  const at::Tensor o_view =
      need_viewmats ? at::zeros(in.viewmats.sizes(), options) : at::empty({0}, options);
  if (in.N == 0 || in.C == 0) return {o_means, o_covars, o_quats, o_scales, o_view};
  const int64_t images = in.B * in.C;
  std::vector<double> pose(need_viewmats ? images * in.chunks * kPoseTerms : 0, 0.0);
  AT_DISPATCH_FLOATING_TYPES(in.means.scalar_type(), "project_bwd", [&] {
    using T = scalar_t;
    const auto cameras = in.cameras<T>(width, height);
    const int64_t* id = packed ? ids.const_data_ptr<int64_t>() : nullptr;
    parallel_ranges(in.B * in.chunks, 4, 1, [&](int64_t first, int64_t last) {
      RowList list;
      for (int64_t task = first; task < last; ++task) {
        const int64_t b = task / in.chunks, chunk = task % in.chunks, n0 = chunk * kChunk;
        const int64_t n1 = std::min(in.N, n0 + kChunk);
        for (int64_t i = b * in.C; i < (b + 1) * in.C; ++i) {
          if (packed) {
            const int64_t* p = pointers.const_data_ptr<int64_t>();
            list_packed(list, id, {i, p[i], p[i + 1]}, n0, n1);
          } else {
            list_dense(list, dense_radii.const_data_ptr<int32_t>(), nullptr, i * in.N, n0, n1);
          }
          if (!list.count) continue;
          const auto target = [&](const at::Tensor& t, int64_t size) {
            T* p = mutable_or_null<T>(t);
            return p && !per_row ? p + b * in.N * size : p;
          };
          const BackwardArgs<T> args{
              in.world<T>(b),
              &cameras[i],
              T(eps2d),
              &list,
              data_or_null<T>(gm),
              data_or_null<T>(gd),
              data_or_null<T>(gc),
              data_or_null<T>(gr),
              target(o_means, 3),
              target(o_covars, 9),
              target(o_quats, 4),
              target(o_scales, 3),
              per_row,
              need_viewmats ? &pose[(i * in.chunks + chunk) * kPoseTerms] : nullptr};
          backward_chunk<T>(static_cast<int>(model), args);
        }
      }
    });
    for (int64_t i = 0; need_viewmats && i < images; ++i) {
      double sum[kPoseTerms] = {};
      for (int64_t chunk = 0; chunk < in.chunks; ++chunk)
        for (int k = 0; k < kPoseTerms; ++k) sum[k] += pose[(i * in.chunks + chunk) * kPoseTerms + k];
      T* out = o_view.data_ptr<T>() + 16 * i;
      for (int k = 0; k < 9; ++k) out[k / 3 * 4 + k % 3] = T(sum[k]);
      for (int k = 0; k < 3; ++k) out[4 * k + 3] = T(sum[9 + k]);
    }
  });
  return {o_means, o_covars, o_quats, o_scales, o_view};
}

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("project_fwd", &project_fwd_cpu);
  m.impl("project_packed_fwd", &project_packed_fwd_cpu);
  m.impl("project_bwd", &project_bwd_cpu);
}

}  // namespace projection_cpu
}  // namespace mmc
