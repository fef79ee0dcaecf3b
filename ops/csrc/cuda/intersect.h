// Launchers of the tile lists: count, order by depth, emit, look up list starts.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

struct SplatRows {
  const float *means2d, *depths;     // [rows, 2], [rows]
  const float *conics, *opacities;   // [rows, 3], [rows], or null
  const int32_t* radii;              // [rows, 2]
  const int64_t* image_ids;  // [rows]; null: image = row / rows_per_image
  const bool* masks;         // [images, tile_height, tile_width]; null: all tiles
  int64_t rows, rows_per_image, n_images;
  int32_t tile_size, tile_width, tile_height;
  int64_t* refused;  // report of ids out of range (ids.h)
};

// totals[0] intersections, [1] rows with any, [2] 1 if a depth is negative; zeroed by the caller.
cudaError_t launch_isect_count(const SplatRows& in, int32_t* counts, int32_t* flags,
                               int64_t* totals, cudaStream_t stream);
// Depth keys and row numbers; with positions (the scan of flags) only rows that touch a tile.
cudaError_t launch_isect_keys(const SplatRows& in, const int32_t* counts,
                              const int64_t* positions, const int64_t* totals, uint32_t* keys,
                              void* values, bool wide, cudaStream_t stream);
// counts of rows in the order of `values`.
cudaError_t launch_isect_gather(const void* values, bool wide, const int32_t* counts, int64_t n,
                                int32_t* out, cudaStream_t stream);
// Tile keys (image * tiles + tile) and rows of n ordered rows, the part below `capacity`.
cudaError_t launch_isect_emit(const SplatRows& in, const void* order, bool wide,
                              const int32_t* counts, const int64_t* starts, int64_t n,
                              int64_t capacity, uint32_t* tiles, void* rows, cudaStream_t stream);
// 64-bit keys of sorted entries, and the start of each tile's list.
cudaError_t launch_isect_finish(const SplatRows& in, const uint32_t* tiles, const void* rows,
                                bool wide, const int64_t* totals, int64_t n, int64_t* isect_ids,
                                int64_t* offsets, cudaStream_t stream);

}  // namespace mmc
