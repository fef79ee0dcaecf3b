// Launchers of 2D Gaussian (surfel) compositing.
#pragma once
#include "cuda/rasterize.h"

namespace mmc {

constexpr int kSurfelSums = 12;  // transform 9, centre 2, opacity 1; channels follow

struct SurfelRows {
  const float *means2d, *transforms, *features, *opacities, *backgrounds;  // last may be null
  int64_t channels;
};
struct SurfelOut {
  float *renders, *alphas, *distortion, *median, *final_t, *moments;
  int32_t* last;   // [pixels, 2]: last contributor, and the one of the median depth
  uint16_t* hits;  // zeroed
};
cudaError_t launch_surfel_fwd(const RasterTiles& tiles, const SurfelRows& rows,
                              const SurfelOut& out, cudaStream_t stream);

struct SurfelGradIo {
  const float *v_renders, *v_alphas, *v_distortion, *v_median, *final_t, *moments;
  const int32_t* last;
  const uint16_t* hits;
  const int64_t* slots;  // null: atomics into rows
  float* sums;           // [rows or slots, stride]; rows zeroed by the caller
  int64_t stride;
};
cudaError_t launch_surfel_bwd(const RasterTiles& tiles, const SurfelRows& rows,
                              const SurfelGradIo& io, cudaStream_t stream);

}  // namespace mmc
