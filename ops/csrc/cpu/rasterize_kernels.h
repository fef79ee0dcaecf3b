// What the driver of the CPU rasterizer (rasterize.cpp) and the tile kernels, compiled once per
// instruction set (rasterize_isa_*.cpp), agree on. No torch here: the kernels must not drag
// inline library code into a translation unit that is compiled for a newer processor.
#pragma once
#include <cstdint>

namespace mmc {

constexpr int kTile = 16;          // edge of the square of pixels that one kernel call renders
constexpr int kFewChannels = 4;    // up to here channels live in registers
constexpr int kMaxChunk = 256;     // list entries that are staged at a time

// One projected splat, padded to one cache line in float32. The conic is scaled (alpha.h);
// half_y ... da say where its level set lies (intersect.h).
template <typename T>
struct alignas(16 * sizeof(T)) SplatRecord {
  T x, y, a, b, c, opacity;
  T color[kFewChannels];
  T half_y, skew, slope, ta, da;
  T unused;
};

// A square of pixels and its list. Larger tiles are split: `sub` numbers the parts.
struct TileJob {
  int64_t begin, end;    // range in the sorted list
  int64_t pixel;         // index of the first pixel in the outputs
  int64_t row_stride;    // pixels from one row to the next in the outputs
  int64_t image;
  int32_t x0, y0, w, h;  // first pixel in the image; size inside the image
  int32_t sub;
};

template <typename T>
struct RowsIn {  // raw rows, for the records
  const T *means2d, *conics, *colors, *opacities;  // [n, 2], [n, 3], [n, channels], [n]
  int64_t n, channels;
};

template <typename T>
struct RasterIn {
  const SplatRecord<T>* records;  // [rows]
  const T* colors;  // [rows, channels]
  const T* backgrounds;  // [images, channels] or null
  const int32_t* ids32;  // one of the two is null
  const int64_t* ids64;
  int64_t channels, subs;
  T t_stop;  // a pixel ends before its transmittance falls to this
};

template <typename T>
struct ForwardOut {
  T *renders, *alphas, *final_t;  // [pixels, channels], [pixels], [pixels]
  int32_t* last;      // [pixels] position in the tile's list, -1 for none
  uint16_t* hits;     // [entry * subs + sub]: blocks of 4 x 4 pixels that the entry reached
  int32_t* touched;   // [entry * subs + sub], or null
  T* peak;            // [entry * subs + sub], or null
};

template <typename T>
struct BackwardIO {
  const T *v_renders, *v_alphas, *final_t;  // [pixels, channels], [pixels], [pixels]
  const int32_t* last;                      // [pixels]
  const uint16_t* hits;                     // [entry * subs + sub]
  const int64_t* slots;  // row of `partials` for each entry and sub with hits
  T* partials;           // [slot, stride]: moments (alpha.h), channels, absolute sums
  T* v_backgrounds;      // [channels] of this job, or null
  int64_t stride;
  bool geometry, colors, absolute;  // which gradients are wanted
};

template <typename T>
struct SurfelIn {
  const T *means2d, *transforms, *features;  // [rows, 2], [rows, 3, 3], [rows, channels]
  const T *opacities, *backgrounds;          // [rows], [images, channels] or null
  const int32_t* ids32;                      // lists; one of the two is null
  const int64_t* ids64;
  int64_t channels, subs;
};

template <typename T>
struct SurfelOut {
  T *renders, *alphas, *distortion;  // [pixels, channels], [pixels], [pixels]
  T *median, *final_t, *moments;     // [pixels], [pixels], [pixels, 2]
  int32_t* last;  // [pixels, 2]: last contributor, median contributor
  uint16_t* hits;
};

template <typename T>
struct SurfelGradIO {
  const T *v_renders, *v_alphas, *v_distortion;  // [pixels, channels], [pixels], [pixels]
  const T *v_median, *final_t, *moments;         // [pixels], [pixels], [pixels, 2]
  const int32_t* last;
  const uint16_t* hits;
  const int64_t* slots;
  T* partials;  // [slot, stride]: sums (math/surfel.h), then channels
  T* v_backgrounds;
  int64_t stride;
};

template <typename T>
struct RasterKernels {
  void (*records)(const RowsIn<T>&, int64_t begin, int64_t end, bool cull, SplatRecord<T>* out);
  int64_t (*scratch_size)(int64_t channels, bool backward);  // elements of T, 64-byte aligned
  void (*forward)(const RasterIn<T>&, const ForwardOut<T>&, const TileJob&, T* scratch);
  void (*backward)(const RasterIn<T>&, const BackwardIO<T>&, const TileJob&, T* scratch);
  int64_t (*surfel_scratch)(int64_t channels);
  void (*surfel_forward)(const SurfelIn<T>&, const SurfelOut<T>&, const TileJob&, T* scratch);
  void (*surfel_backward)(const SurfelIn<T>&, const SurfelGradIO<T>&, const TileJob&, T* scratch);
};

const RasterKernels<float>& raster_kernels_base();
const RasterKernels<float>& raster_kernels_avx2();
const RasterKernels<float>& raster_kernels_avx512();
const RasterKernels<double>& raster_kernels_double();

}  // namespace mmc
