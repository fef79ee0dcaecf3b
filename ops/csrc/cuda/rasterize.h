// Launchers of alpha compositing.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

constexpr int kSquare = 16;         // edge of the square of pixels that one block renders
constexpr int kWindows = 8;         // of 8 x 4 pixels, one per warp
constexpr int kFewBackward = 16;    // up to here the backward keeps channels in registers
constexpr int kMomentWidth = 8;     // six moments (alpha.h) and two absolute sums

// What is rendered: all tiles of all images, or chosen ones as blocks of pixels.
struct RasterTiles {
  const int64_t* offsets;   // [images, th, tw]
  const int64_t* tile_ids;  // chosen tiles, or null
  const bool* masks;        // [images, th, tw] or null
  const int32_t* ids32;     // lists; one of the two is null
  const int64_t* ids64;
  int64_t n_entries, n_tiles, n_images, n_rows;
  int64_t* refused;         // report of ids out of range (ids.h)
  int32_t th, tw, tile_size, width, height;

  int64_t side() const { return (tile_size + kSquare - 1) / kSquare; }
  int64_t squares() const { return n_tiles * side() * side(); }
};

struct RasterRows {
  const float *means2d, *conics;     // [rows, 2], [rows, 3]
  const float *colors, *opacities;   // [rows, channels], [rows]
  const float* backgrounds;          // [images, channels] or null
  int64_t channels;
  float t_stop;  // a pixel ends before its transmittance falls to this
};

struct RasterOut {
  float *renders, *alphas, *final_t;  // [pixels, channels], [pixels], [pixels]
  int32_t* last;                      // [pixels]
  uint16_t* hits;    // [entry * squares per tile + square]: windows that the entry reached; zeroed
  int32_t* touched;  // per row, or null; zeroed
  float* peak;       // per row, or null; zeroed
};

cudaError_t launch_rasterize_fwd(const RasterTiles& tiles, const RasterRows& rows,
                                 const RasterOut& out, cudaStream_t stream);

// Sums per row: moments [rows, stride] with the channels behind them where colors is null.
// With slots, sums of one window go to a row of their own: slot = slots[entry * squares per tile
// + square] + number of hit windows before; later added up in a fixed order.
struct RasterGradIo {
  const float *v_renders, *v_alphas, *final_t;  // [pixels, channels], [pixels], [pixels]
  const int32_t* last;                          // [pixels]
  const uint16_t* hits;
  const int64_t* slots;  // null: atomics into rows
  float* moments;        // [rows or slots, stride]; rows zeroed by the caller
  float* colors;         // [rows, channels], or null
  int64_t stride;
  bool geometry, features, absolute;
};

cudaError_t launch_rasterize_bwd(const RasterTiles& tiles, const RasterRows& rows,
                                 const RasterGradIo& io, cudaStream_t stream);

// Number of hit windows of each (entry, square).
cudaError_t launch_count_windows(const uint16_t* hits, int64_t n, int32_t* counts,
                                 cudaStream_t stream);
// Row of each slot, and the slot's own number, as pairs to be sorted.
cudaError_t launch_slot_rows(const RasterTiles& tiles, const uint16_t* hits, const int64_t* slots,
                             uint32_t* rows, int64_t* numbers, cudaStream_t stream);
// sums[row, c] = sum over the slots of the row in order, c < width.
cudaError_t launch_sum_slots(const uint32_t* sorted_rows, const int64_t* numbers, int64_t n_slots,
                             const float* partials, int64_t rows, int64_t width, float* sums,
                             cudaStream_t stream);

// Gradients of the rows from their moments; null pointers are skipped. Channels behind the
// moments are copied to v_colors.
struct RasterGradients {
  float *v_means2d, *v_conics, *v_opacities;  // [rows, 2], [rows, 3], [rows]
  float *v_absolute, *v_colors;               // [rows, 2], [rows, channels]
};
cudaError_t launch_finish_gradients(const float* moments, int64_t stride, const RasterRows& rows,
                                    int64_t n, const RasterGradients& out, cudaStream_t stream);

// sums[square, channel] = sum over its pixels of T_final * v_renders.
cudaError_t launch_background_sums(const RasterTiles& tiles, int64_t channels, const float* final_t,
                                   const float* v_renders, float* sums, cudaStream_t stream);

}  // namespace mmc
