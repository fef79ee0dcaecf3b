// Every function of ops/csrc/math that has a hand-written gradient, as pairs value(x) and
// vjp(x, g) on double, for tests that compare them with differences. No torch, no kernels.
#include <vector>

#include "math/blend.h"
#include "math/plane.h"
#include "math/projection.h"
#include "math/sh.h"
#include "math/splat.h"
#include "math/ssim.h"
#include "math/surfel_blend.h"
#include "math/voxel.h"

using namespace mmc;
using D = double;

namespace {

struct Case {
  const char* name;
  int inputs, outputs;
  void (*value)(const D* x, D* y);
  void (*vjp)(const D* x, const D* g, D* gx);
};

Quat<D> quat(const D* x) { return {x[0], x[1], x[2], x[3]}; }
Vec3<D> vec(const D* x) { return {x[0], x[1], x[2]}; }
Mat3<D> mat(const D* x) {
  return {{{x[0], x[1], x[2]}, {x[3], x[4], x[5]}, {x[6], x[7], x[8]}}};
}
void put(const Vec3<D>& v, D* y) { y[0] = v.x, y[1] = v.y, y[2] = v.z; }
void put(const Quat<D>& q, D* y) { y[0] = q.w, y[1] = q.x, y[2] = q.y, y[3] = q.z; }
void put(const Mat3<D>& m, D* y) {
  for (int k = 0; k < 9; ++k) y[k] = m.m[k / 3][k % 3];
}
void put(const Jacobian<D>& j, D* y) {
  for (int k = 0; k < 6; ++k) y[k] = j.m[k / 3][k % 3];
}
// A symmetric matrix from its six numbers, and the gradient of those.
Sym3<D> sym(const D* x) { return {x[0], x[1], x[2], x[3], x[4], x[5]}; }
void put_sym(const Mat3<D>& g, D* y) {
  y[0] = g.m[0][0], y[3] = g.m[1][1], y[5] = g.m[2][2];
  y[1] = g.m[0][1] + g.m[1][0], y[2] = g.m[0][2] + g.m[2][0], y[4] = g.m[1][2] + g.m[2][1];
}

// Camera whose pose is given by 12 numbers (rows of R, then t).
Camera<D> camera(const D* pose) {
  const D viewmat[16] = {pose[0], pose[1], pose[2], pose[9],  pose[3], pose[4], pose[5], pose[10],
                         pose[6], pose[7], pose[8], pose[11], 0,       0,       0,       1};
  const D K[9] = {80, 0, 41, 0, 75, 30, 0, 0, 1};
  return make_camera<D, D>(viewmat, K, D(80), D(64));
}
const D kStill[12] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
void put_pose(const CameraGrad<D>& g, D* y) {
  put(g.r, y);
  put(g.t, y + 9);
}

// ---------------------------------------------------------------- rotations and covariances
void rotation(const D* x, D* y) { put(rotmat(normalize(quat(x)).u), y); }
void rotation_vjp(const D* x, const D* g, D* gx) {
  put(rotmat_vjp(normalize(quat(x)), mat(g)), gx);
}
void covariance(const D* x, D* y) { put(full(covar_fwd(quat(x), vec(x + 4))), y); }
void covariance_vjp(const D* x, const D* g, D* gx) {
  const auto o = covar_vjp(quat(x), vec(x + 4), mat(g));
  put(o.quat, gx);
  put(o.scale, gx + 4);
}
void precision(const D* x, D* y) { put(full(preci_fwd(quat(x), vec(x + 4))), y); }
void precision_of_quat_vjp(const D* x, const D* g, D* gx) {
  const auto o = preci_vjp(quat(x), vec(x + 4), mat(g));
  put(o.quat, gx);
  put(o.scale, gx + 4);
}

// ---------------------------------------------------------------- cameras and projection
template <int Model>
void point(const D* x, D* y) {
  const auto c = CameraMath<D, Model>::fwd(camera(kStill), vec(x));
  y[0] = c.u, y[1] = c.v;
  put(c.j, y + 2);
}
template <int Model>
void point_vjp_(const D* x, const D* g, D* gx) {
  Jacobian<D> gj;
  for (int k = 0; k < 6; ++k) gj.m[k / 3][k % 3] = g[2 + k];
  put(CameraMath<D, Model>::vjp(camera(kStill), vec(x), g[0], g[1], gj), gx);
}
const ProjParams<D> kParams{0.3, 0.01, 1e10, 0.0};
void put_projected(const Projected<D>& p, D* y) {
  const D all[7] = {p.u, p.v, p.depth, p.conic_a, p.conic_b, p.conic_c, p.compensation};
  for (int k = 0; k < 7; ++k) y[k] = all[k];
}
ProjGrad<D> grad_of(const D* g) { return {g[0], g[1], g[2], g[3], g[4], g[5], g[6]}; }
// mean 3, quaternion 4, scales 3, pose 12
template <int Model>
void project(const D* x, D* y) {
  put_projected(
      project_fwd<D, Model>(camera(x + 10), kParams, vec(x), quat(x + 3), vec(x + 7)), y);
}
template <int Model>
void project_vjp_(const D* x, const D* g, D* gx) {
  const auto o = project_vjp<D, Model>(camera(x + 10), kParams.eps2d, vec(x), quat(x + 3),
                                       vec(x + 7), grad_of(g));
  put(o.point.mean, gx);
  put(o.shape.quat, gx + 3);
  put(o.shape.scale, gx + 7);
  put_pose(o.point.cam, gx + 10);
}
// mean 3, covariance 6, pose 12
template <int Model>
void project_covar(const D* x, D* y) {
  put_projected(project_fwd<D, Model>(camera(x + 9), kParams, vec(x), sym(x + 3)), y);
}
template <int Model>
void project_covar_vjp(const D* x, const D* g, D* gx) {
  const auto o =
      project_vjp<D, Model>(camera(x + 9), kParams.eps2d, vec(x), sym(x + 3), grad_of(g));
  put(o.point.mean, gx);
  put_sym(o.covar, gx + 3);
  put_pose(o.point.cam, gx + 9);
}

// ---------------------------------------------------------------- harmonics
void harmonics(const D* x, D* y) {
  D inv;
  sh_basis<D, 4>(unit_direction(vec(x), inv), y, 1);
}
void harmonics_vjp(const D* x, const D* g, D* gx) {
  D inv;
  const Vec3<D> d = unit_direction(vec(x), inv);
  put(unit_direction_vjp(d, inv, sh_basis_vjp<D, 4>(d, g, 1)), gx);
}

// ---------------------------------------------------------------- compositing, pixel at (0, 0)
constexpr int kSplats = 4, kSplatNumbers = 7;  // mean 2, conic 3, opacity, colour
auto alpha_of(const D* s) {
  return eval_alpha<D, D>(scale_conic(s[2], s[3], s[4]), s[0], s[1], s[5]);
}
void blend(const D* x, D* y) {
  D t = 1, color = 0;
  for (int i = 0; i < kSplats; ++i) {
    const auto e = alpha_of(x + kSplatNumbers * i);
    if (!e.hit) continue;
    color += e.alpha * t * x[kSplatNumbers * i + 6];
    t *= 1 - e.alpha;
  }
  y[0] = color, y[1] = 1 - t;
}
void blend_vjp_(const D* x, const D* g, D* gx) {
  D t = 1;
  for (int i = 0; i < kSplats; ++i) {
    const auto e = alpha_of(x + kSplatNumbers * i);
    if (e.hit) t *= 1 - e.alpha;
  }
  BlendState<D> state{t, t * g[1]};
  for (int i = kSplats - 1; i >= 0; --i) {
    const D* s = x + kSplatNumbers * i;
    D* o = gx + kSplatNumbers * i;
    for (int k = 0; k < kSplatNumbers; ++k) o[k] = 0;
    const auto e = alpha_of(s);
    if (!e.hit) continue;
    const BlendGrad<D> b = blend_vjp(e, s[6] * g[0], state);
    AlphaMoments<D> m{};
    add_moments(m, b.q, e.dx, e.dy);
    const AlphaGrads<D> a = alpha_grads(m, s[2], s[3], s[4], s[5]);
    const D all[7] = {a.mean_x,  a.mean_y,  a.conic_a,        a.conic_b,
                      a.conic_c, a.opacity, b.weight * g[0]};
    for (int k = 0; k < kSplatNumbers; ++k) o[k] = all[k];
  }
}

// ---------------------------------------------------------------- surfels, pixel at (0.5, 0.5)
constexpr int kSurfelNumbers = 13;  // transform 9, centre 2, opacity, feature
SurfelRow<D> surfel(const D* x) {
  SurfelRow<D> g;
  for (int k = 0; k < 9; ++k) g.m[k / 3][k % 3] = x[k];
  g.x = x[9], g.y = x[10], g.opacity = x[11];
  return g;
}
void surfels(const D* x, D* y) {
  SurfelPixel<D> s{};
  s.t = 1;
  y[0] = 0;
  for (int i = 0; i < kSplats; ++i) {
    const auto e = eval_surfel<D, D>(surfel(x + kSurfelNumbers * i), 0.5, 0.5);
    if (!e.hit) continue;
    const D weight = e.alpha * s.t;
    y[0] += weight * x[kSurfelNumbers * i + 12];
    blend_surfel(s, weight, e.depth, s.t * (1 - e.alpha));
  }
  y[1] = 1 - s.t, y[2] = s.distortion, y[3] = s.median;
}
void surfels_vjp(const D* x, const D* g, D* gx) {
  SurfelPixel<D> s{};
  s.t = 1;
  int median = -1;
  for (int i = 0; i < kSplats; ++i) {
    const auto e = eval_surfel<D, D>(surfel(x + kSurfelNumbers * i), 0.5, 0.5);
    if (!e.hit) continue;
    if (s.t > 0.5) median = i;
    blend_surfel(s, e.alpha * s.t, e.depth, s.t * (1 - e.alpha));
  }
  SurfelBackward<D> b{s.t, s.t * g[1], 1 - s.t, s.m1, s.m2, g[2], g[3]};
  for (int i = kSplats - 1; i >= 0; --i) {
    const D* row = x + kSurfelNumbers * i;
    D* o = gx + kSurfelNumbers * i;
    for (int k = 0; k < kSurfelNumbers; ++k) o[k] = 0;
    const SurfelRow<D> r = surfel(row);
    const auto e = eval_surfel<D, D>(r, 0.5, 0.5);
    if (!e.hit) continue;
    const auto step = surfel_backward_step(b, e, row[12] * g[0], i == median);
    const auto d = surfel_vjp<D, D>(r, e, 0.5, 0.5, -step.q * r.opacity, step.g_depth);
    for (int k = 0; k < 9; ++k) o[k] = d.m[k / 3][k % 3];
    o[9] = d.x, o[10] = d.y, o[11] = step.q, o[12] = step.weight * g[0];
  }
}

// ---------------------------------------------------------------- volumes, point at (0, 0, 0)
// mean 3, matrix 6, amplitude: amplitude * exp(-|W (0 - mean)|^2)
template <bool Precision>
Whitening<D> whitening(const D* x) {
  D m[9];
  put(full(sym(x + 3)), m);
  return Precision ? whiten_precision(m) : whiten_covariance(m);
}
Vec3<D> whitened(const Whitening<D>& k, const D* mean) {
  const D d[3] = {-mean[0], -mean[1], -mean[2]};
  return {k.w[0] * d[0], k.w[1] * d[0] + k.w[2] * d[1],
          k.w[3] * d[0] + k.w[4] * d[1] + k.w[5] * d[2]};
}
template <bool Precision>
void density(const D* x, D* y) {
  const Vec3<D> w = whitened(whitening<Precision>(x), x);
  y[0] = x[9] * std::exp(-dot(w, w));
}
template <bool Precision>
void density_vjp(const D* x, const D* g, D* gx) {
  const Whitening<D> k = whitening<Precision>(x);
  const Vec3<D> w = whitened(k, x);
  const D e = std::exp(-dot(w, w)), t = x[9] * e * g[0];
  const GaussianMoments<D> m{e * g[0],
                             {t * w.x, t * w.y, t * w.z},
                             {t * w.x * w.x, t * w.x * w.y, t * w.y * w.y, t * w.x * w.z,
                              t * w.y * w.z, t * w.z * w.z}};
  D matrix[9];
  mean_vjp(m, k, gx);
  if (Precision)
    precision_vjp(m, k, matrix);
  else
    mmc::covariance_vjp(m, k, matrix);
  put_sym(mat(matrix), gx + 3);
  gx[9] = m.amp;
}

// ---------------------------------------------------------------- similarity and planes
constexpr D kCenter1 = 0.3, kCenter2 = -0.2;
SsimTerms<D> similarity(const D* x) {
  return ssim_terms(x[0], x[1], x[2], x[3], x[4], kCenter1, kCenter2);
}
void ssim(const D* x, D* y) { y[0] = ssim_map(similarity(x)); }
void ssim_vjp(const D* x, const D* g, D* gx) {
  const auto p = ssim_partials(similarity(x), x[0], x[1], kCenter1, kCenter2);
  const D all[5] = {p.mu1, p.mu2, p.e11, p.e11, p.e12};
  for (int k = 0; k < 5; ++k) gx[k] = all[k] * g[0];
}
// mean 3, quaternion 4, pose 12
const Vec3<D> kFlat{0.3, 0.02, 0.2};
void plane(const D* x, D* y) {
  const auto p = plane_of(camera(x + 7), vec(x), quat(x + 3), kFlat);
  put(p.normal, y);
  y[3] = abs_(p.signed_distance);
}
void plane_vjp_(const D* x, const D* g, D* gx) {
  const auto o = plane_vjp(camera(x + 7), vec(x), quat(x + 3), kFlat, vec(g), g[3]);
  put(o.mean, gx);
  put(o.quat, gx + 3);
  put(o.r, gx + 7);
  put(o.t, gx + 16);
}
// normal 3, distance
const PlaneRay<D> kRay{1 / 80.0, 1 / 75.0, 41, 30};
void depth(const D* x, D* y) { y[0] = plane_depth(along_ray(kRay, 50, 20, x), x[3]); }
void depth_vjp(const D* x, const D* g, D* gx) {
  plane_depth_vjp(kRay, 50, 20, x, x[3], g[0], gx, gx[3]);
}

const std::vector<Case> kCases{
    {"rotation", 4, 9, rotation, rotation_vjp},
    {"covariance", 7, 9, covariance, covariance_vjp},
    {"precision", 7, 9, precision, precision_of_quat_vjp},
    {"pinhole", 3, 8, point<kPinhole>, point_vjp_<kPinhole>},
    {"ortho", 3, 8, point<kOrtho>, point_vjp_<kOrtho>},
    {"fisheye", 3, 8, point<kFisheye>, point_vjp_<kFisheye>},
    {"project_pinhole", 22, 7, project<kPinhole>, project_vjp_<kPinhole>},
    {"project_ortho", 22, 7, project<kOrtho>, project_vjp_<kOrtho>},
    {"project_fisheye", 22, 7, project<kFisheye>, project_vjp_<kFisheye>},
    {"project_covar_pinhole", 21, 7, project_covar<kPinhole>, project_covar_vjp<kPinhole>},
    {"project_covar_ortho", 21, 7, project_covar<kOrtho>, project_covar_vjp<kOrtho>},
    {"project_covar_fisheye", 21, 7, project_covar<kFisheye>, project_covar_vjp<kFisheye>},
    {"harmonics", 3, 25, harmonics, harmonics_vjp},
    {"blend", kSplats * kSplatNumbers, 2, blend, blend_vjp_},
    {"surfels", kSplats * kSurfelNumbers, 4, surfels, surfels_vjp},
    {"density_covariance", 10, 1, density<false>, density_vjp<false>},
    {"density_precision", 10, 1, density<true>, density_vjp<true>},
    {"ssim", 5, 1, ssim, ssim_vjp},
    {"plane", 19, 4, plane, plane_vjp_},
    {"plane_depth", 4, 1, depth, depth_vjp},
};

}  // namespace

extern "C" {
int case_count() { return static_cast<int>(kCases.size()); }
const char* case_name(int i) { return kCases[i].name; }
int case_inputs(int i) { return kCases[i].inputs; }
int case_outputs(int i) { return kCases[i].outputs; }
void case_value(int i, const D* x, D* y) { kCases[i].value(x, y); }
void case_vjp(int i, const D* x, const D* g, D* gx) { kCases[i].vjp(x, g, gx); }
}
