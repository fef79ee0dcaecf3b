// Squares of 16 x 16 pixels and their lists, shared by the compositing kernels.
#pragma once
#include "cuda/common.cuh"
#include "cuda/rasterize.h"
#include "math/hd.h"

namespace mmc {

struct Square {
  int64_t begin, end;     // range in the lists
  int64_t pixel, stride;  // first pixel in the outputs, and from one row to the next
  int64_t image, tile;
  int32_t x0, y0, w, h;   // first pixel in the image, size inside the image
  int32_t sub;            // number of the square in its tile
};

__device__ __forceinline__ int64_t row_of(const RasterTiles& t, int64_t entry) {
  return t.ids32 ? int64_t(t.ids32[entry]) : t.ids64[entry];
}

// Row of an entry; false where there is none such.
__device__ __forceinline__ bool find_row(const RasterTiles& t, int64_t entry, int64_t& row) {
  row = row_of(t, entry);
  return id_fits(t.refused, kFlattenIds, entry, row, t.n_rows);
}

// Lists of fixed capacity end in entries of -1: the number of entries in front of them.
__device__ __forceinline__ int64_t used_entries(const RasterTiles& t) {
  int64_t lo = 0, hi = t.n_entries;
  while (lo < hi) {
    const int64_t mid = (lo + hi) / 2;
    if (row_of(t, mid) >= 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

__device__ __forceinline__ Square square_of(const RasterTiles& t, int64_t index) {
  const int32_t side = (t.tile_size + kSquare - 1) / kSquare, subs = side * side;
  const int64_t k = index / subs, per_image = int64_t(t.th) * t.tw;
  const int64_t all = t.n_images * per_image;
  Square s;
  s.sub = static_cast<int32_t>(index % subs);
  s.tile = t.tile_ids ? t.tile_ids[k] : k;
  const bool valid = id_fits(t.refused, kTileIds, k, s.tile, all);
  if (!valid) s.tile = 0;
  s.image = s.tile / per_image;
  const int32_t ty = static_cast<int32_t>(s.tile % per_image / t.tw);
  const int32_t tx = static_cast<int32_t>(s.tile % t.tw);
  s.begin = t.offsets[s.tile];
  s.end = s.tile + 1 < all ? t.offsets[s.tile + 1] : used_entries(t);
  const bool range = id_fits(t.refused, kIsectOffsets, s.tile, s.begin, s.end + 1) &&
                     id_fits(t.refused, kIsectOffsets, s.tile + 1, s.end, t.n_entries + 1);
  if (!valid || !range || (t.masks && !t.masks[s.tile])) s.begin = s.end = 0;
  const int32_t dx = s.sub % side * kSquare, dy = s.sub / side * kSquare;
  s.x0 = tx * t.tile_size + dx;
  s.y0 = ty * t.tile_size + dy;
  const int32_t w = min_(min_(int32_t(kSquare), t.tile_size - dx), t.width - s.x0);
  const int32_t h = min_(min_(int32_t(kSquare), t.tile_size - dy), t.height - s.y0);
  s.w = valid && w > 0 ? w : 0;
  s.h = valid && h > 0 ? h : 0;
  if (t.tile_ids) {
    s.pixel = (k * t.tile_size + dy) * t.tile_size + dx;
    s.stride = t.tile_size;
  } else {
    s.pixel = (s.image * t.height + s.y0) * t.width + s.x0;
    s.stride = t.width;
  }
  return s;
}

__device__ __forceinline__ int subs_of(const RasterTiles& t) {
  const int side = (t.tile_size + kSquare - 1) / kSquare;
  return side * side;
}

// Pixel of a lane inside its square: windows are 8 wide, 4 high, two beside each other.
__device__ __forceinline__ int window_x(int window, int lane) {
  return (window & 1) * 8 + (lane & 7);
}
__device__ __forceinline__ int window_y(int window, int lane) {
  return (window >> 1) * 4 + (lane >> 3);
}

}  // namespace mmc
