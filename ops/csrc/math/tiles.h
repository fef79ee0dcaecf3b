// Tiles and windows of pixels that a projected splat touches, and the keys that sort them.
#pragma once
#include "math/intersect.h"

namespace mmc {

// The box of a splat in tiles and, for exact lists, where its level set meets tile rows.
template <typename T>
struct TileCover {
  EllipseBand<T> band;
  T x, y, tile_size;
  int32_t x0, x1, y0, y1;  // tiles of the box; empty if x0 >= x1 or y0 >= y1
  bool exact;
};

MMC_HD void tile_range(float lo, float hi, float tile_size, int32_t limit, int32_t& begin,
                       int32_t& end) {
  const float top = static_cast<float>(limit);
  begin = static_cast<int32_t>(clamp_(floor_(lo / tile_size), 0.0f, top));
  end = static_cast<int32_t>(clamp_(ceil_(hi / tile_size), 0.0f, top));
}

// conic null: the whole box; opacity null: the level set at the full extent.
template <typename T>
MMC_HD TileCover<T> tile_cover(T x, T y, int32_t radius_x, int32_t radius_y, const T* conic,
                               const T* opacity, int32_t tile_size, int32_t tile_width,
                               int32_t tile_height) {
  TileCover<T> c{};
  const float fx = static_cast<float>(x), fy = static_cast<float>(y);
  if (radius_x <= 0 || radius_y <= 0 || !(abs_(fx) < 1e30f) || !(abs_(fy) < 1e30f)) return c;
  const float rx = static_cast<float>(radius_x), ry = static_cast<float>(radius_y);
  const float ts = static_cast<float>(tile_size);
  tile_range(fx - rx, fx + rx, ts, tile_width, c.x0, c.x1);
  tile_range(fy - ry, fy + ry, ts, tile_height, c.y0, c.y1);
  c.x = x;
  c.y = y;
  c.tile_size = static_cast<T>(tile_size);
  c.exact = conic != nullptr;
  if (c.exact) {
    const T full = Splat<T>::extent * Splat<T>::extent;
    c.band = ellipse_band(conic[0], conic[1], conic[2], opacity ? alpha_level(*opacity) : full);
  }
  return c;
}

// Tiles [begin, end) of one tile row; false where there is none.
template <typename T>
MMC_HD bool tile_row_span(const TileCover<T>& c, int32_t ty, int32_t& begin, int32_t& end) {
  begin = c.x0;
  end = c.x1;
  if (!c.exact) return begin < end;
  const T ts = c.tile_size, top = static_cast<T>(ty) * ts + T(0.5) - c.y;
  T left, right;
  if (!band_interval(c.band, top, top + (ts - T(1)), left, right)) return false;
  // Tiles whose pixel centres [tx ts + 0.5, tx ts + ts - 0.5] meet the interval; the slack covers
  // the rounding of the division.
  const T inverse = T(1) / ts;
  const T lo = (c.x + left - (ts - T(0.5))) * inverse - T(1e-6);
  const T hi = (c.x + right - T(0.5)) * inverse + T(1e-6);
  const T first = static_cast<T>(c.x0), last = static_cast<T>(c.x1);
  begin = static_cast<int32_t>(clamp_(ceil_(lo), first, last));
  end = static_cast<int32_t>(clamp_(floor_(hi) + T(1), first, last));
  return begin < end;
}

// Of the eight windows of 8 x 4 pixels that make up a square of 16 x 16 pixels, bit row * 2 +
// column is set where a pixel centre may lie inside the level set. x, y: centre of the splat
// relative to the first pixel centre of the square.
template <typename T>
MMC_HD unsigned window_mask(const EllipseBand<T>& band, T x, T y) {
  unsigned mask = 0;
  for (int row = 0; row < 4; ++row) {
    const T top = T(4 * row) - y;
    T left, right;
    if (!band_interval(band, top, top + T(3), left, right)) continue;
    left += x;
    right += x;
    mask |= (unsigned(right >= T(0) && left <= T(7)) | unsigned(right >= T(8) && left <= T(15)) << 1)
            << (2 * row);
  }
  return mask;
}

// Bits of a depth that sort like the depth. Negative depths (allowed with orthographic cameras)
// need the biased form, which then holds for all depths of a call.
MMC_HD uint32_t depth_key(uint32_t bits, bool biased) {
  if (!biased) return bits;
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

MMC_HD int bits_of(int64_t count) {
  int bits = 0;
  while ((uint64_t(1) << bits) < static_cast<uint64_t>(count)) ++bits;
  return bits;
}

// image | tile | depth; a count of one image or tile takes no bits.
MMC_HD int64_t isect_key(int64_t image, int64_t tile, uint32_t depth, int64_t n_images,
                         int64_t n_tiles) {
  const uint64_t high = n_images > 1 ? uint64_t(image) << (32 + bits_of(n_tiles)) : 0;
  return static_cast<int64_t>(high | uint64_t(tile) << 32 | depth);
}

}  // namespace mmc
