// Launchers of 2D Gaussian (surfel) compositing.
#pragma once
#include "cuda/rasterize.h"

namespace mmc {

constexpr int kSurfelSums = 12;  // math/surfel.h; channels follow

struct SurfelRows {
  const float *means2d, *transforms;  // [rows, 2], [rows, 3, 3]
  const float *features, *opacities;  // [rows, channels], [rows]
  const float* backgrounds;           // [images, channels] or null
  int64_t channels;
};
struct SurfelOut {
  float *renders, *alphas, *distortion;  // [pixels, channels], [pixels], [pixels]
  float *median, *final_t, *moments;     // [pixels], [pixels], [pixels, 2]
  int32_t* last;   // [pixels, 2]: last contributor, and the one of the median depth
  uint16_t* hits;  // zeroed
};
cudaError_t launch_surfel_fwd(const RasterTiles& tiles, const SurfelRows& rows,
                              const SurfelOut& out, cudaStream_t stream);

struct SurfelGradIo {
  const float *v_renders, *v_alphas, *v_distortion, *v_median, *final_t;  // as of SurfelOut
  const float* moments;
  const int32_t* last;
  const uint16_t* hits;
  const int64_t* slots;  // null: atomics into rows
  float* sums;           // [rows or slots, stride]; rows zeroed by the caller
  int64_t stride;
};
cudaError_t launch_surfel_bwd(const RasterTiles& tiles, const SurfelRows& rows,
                              const SurfelGradIo& io, cudaStream_t stream);

}  // namespace mmc
