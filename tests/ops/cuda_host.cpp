// The block-level parts of the CUDA kernels that need no GPU, for the host: tests call them
// through ctypes and compare them with the CPU operators.
#include "math/blend.h"
#include "math/bricks.h"
#include "math/morton.h"
#include "math/surfel_blend.h"
#include "math/tiles.h"

using namespace mmc;

extern "C" {

int bits_needed(int64_t count) { return bits_of(count); }

// Tiles of one row in raster order; returns their number.
int tiles_of_row(float x, float y, int rx, int ry, const float* conic, const float* opacity,
                 int tile_size, int tw, int th, int32_t* out) {
  const TileCover<float> cover = tile_cover(x, y, rx, ry, conic, opacity, tile_size, tw, th);
  int n = 0;
  for (int32_t ty = cover.y0; ty < cover.y1; ++ty) {
    int32_t begin, end;
    if (!tile_row_span(cover, ty, begin, end)) continue;
    for (int32_t tx = begin; tx < end; ++tx) out[n++] = ty * tw + tx;
  }
  return n;
}

// Windows of 8 x 4 pixels of a 16 x 16 square that a splat may reach, and those it does reach.
void windows_of_splat(float x, float y, const float* conic, float opacity, unsigned* found,
                      unsigned* needed) {
  const EllipseBand<float> band =
      ellipse_band(conic[0], conic[1], conic[2], alpha_level(opacity));
  *found = window_mask(band, x - 0.5f, y - 0.5f);
  const ScaledConic<float> scaled = scale_conic(conic[0], conic[1], conic[2]);
  *needed = 0;
  for (int py = 0; py < 16; ++py)
    for (int px = 0; px < 16; ++px) {
      const auto e = eval_alpha<float, float>(scaled, x - (px + 0.5f), y - (py + 0.5f), opacity);
      if (e.hit) *needed |= 1u << (py / 4 * 2 + px / 8);
    }
}

// One pixel at (0.5, 0.5) with one channel: blends n splats front to back, then back to front.
// means [n, 2], conics [n, 3]; grads [n, 7]: mean 2, conic 3, opacity, color.
void blend_pixel(int n, const float* means, const float* conics, const float* opacities,
                 const float* colors, float v_color, float v_alpha, float* render, float* grads) {
  float t = 1.0f, color = 0.0f;
  int last = -1;
  const auto eval = [&](int i) {
    const float* q = conics + 3 * i;
    return eval_alpha<float, float>(scale_conic(q[0], q[1], q[2]), means[2 * i] - 0.5f,
                                    means[2 * i + 1] - 0.5f, opacities[i]);
  };
  for (int i = 0; i < n; ++i) {
    const auto e = eval(i);
    if (!e.hit) continue;
    const float next = t * (1.0f - e.alpha);
    if (!(next > Splat<float>::t_stop)) break;
    color += e.alpha * t * colors[i];
    t = next;
    last = i;
  }
  *render = color;
  BlendState<float> s{t, t * v_alpha};
  for (int i = last; i >= 0; --i) {
    const auto e = eval(i);
    if (!e.hit) continue;
    const BlendGrad<float> g = blend_vjp(e, colors[i] * v_color, s);
    AlphaMoments<float> m{};
    add_moments(m, g.q, e.dx, e.dy);
    const float* q = conics + 3 * i;
    const AlphaGrads<float> a = alpha_grads(m, q[0], q[1], q[2], opacities[i]);
    const float out[7] = {a.mean_x,  a.mean_y,  a.conic_a,         a.conic_b,
                          a.conic_c, a.opacity, g.weight * v_color};
    for (int k = 0; k < 7; ++k) grads[7 * i + k] = out[k];
  }
}

// The same for surfels. transforms [n, 9]; out: render, alpha, distortion, median; v likewise;
// grads [n, 13]: transform 9, centre 2, opacity, feature.
void blend_surfel_pixel(int n, const float* means, const float* transforms,
                        const float* opacities, const float* features, const float* v, float* out,
                        float* grads) {
  const auto row = [&](int i) {
    SurfelRow<float> g;
    for (int k = 0; k < 9; ++k) g.m[k / 3][k % 3] = transforms[9 * i + k];
    g.x = means[2 * i];
    g.y = means[2 * i + 1];
    g.opacity = opacities[i];
    return g;
  };
  SurfelPixel<float> s{};
  s.t = 1.0f;
  float color = 0.0f;
  int last = -1, median_at = -1;
  for (int i = 0; i < n; ++i) {
    const auto e = eval_surfel<float, float>(row(i), 0.5f, 0.5f);
    if (!e.hit) continue;
    const float next = s.t * (1.0f - e.alpha);
    if (!(next > Splat<float>::t_stop)) break;
    const float weight = e.alpha * s.t;
    color += weight * features[i];
    if (s.t > 0.5f) median_at = i;
    blend_surfel(s, weight, e.depth, next);
    last = i;
  }
  out[0] = color;
  out[1] = 1.0f - s.t;
  out[2] = s.distortion;
  out[3] = s.median;
  SurfelBackward<float> b{s.t, s.t * v[1], 1.0f - s.t, s.m1, s.m2, v[2], v[3]};
  for (int i = last; i >= 0; --i) {
    const SurfelRow<float> g = row(i);
    const auto e = eval_surfel<float, float>(g, 0.5f, 0.5f);
    if (!e.hit) continue;
    const SurfelStep<float> step = surfel_backward_step(b, e, features[i] * v[0], i == median_at);
    const auto d =
        surfel_vjp<float, float>(g, e, 0.5f, 0.5f, -step.q * g.opacity, step.g_depth);
    for (int k = 0; k < 9; ++k) grads[13 * i + k] = d.m[k / 3][k % 3];
    grads[13 * i + 9] = d.x;
    grads[13 * i + 10] = d.y;
    grads[13 * i + 11] = step.q;
    grads[13 * i + 12] = step.weight * v[0];
  }
}

// Bricks of a box of cells; returns their number.
int bricks_of(const int32_t* dims, const int32_t* lo, const int32_t* hi, int edge, int64_t* out) {
  VoxelGrid<float> grid{};
  IndexBox box{};
  for (int d = 0; d < 3; ++d) {
    grid.dims[d] = dims[d];
    box.lo[d] = lo[d];
    box.hi[d] = hi[d];
  }
  const Bricks bricks = make_bricks(grid, edge);
  const int64_t n = bricks_of_box(bricks, box);
  for (int64_t k = 0; k < n; ++k) out[k] = brick_of_box(bricks, box, k);
  return static_cast<int>(n);
}

uint32_t morton(const float* p, const float* lo, const float* hi) { return morton_key(p, lo, hi); }
uint32_t order_key(uint32_t bits) { return ordered_bits(bits); }
uint32_t order_back(uint32_t key) { return unordered_bits(key); }

}  // extern "C"
