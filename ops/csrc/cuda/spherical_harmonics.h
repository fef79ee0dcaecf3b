// Launchers of view-dependent colours.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

struct ShIn {
  const float *means, *viewmats;             // [B, N, 3], [B, C, 4, 4]
  const float *base, *rest;                  // [B, N, K, D], strided by Gaussian; rest may be null
  const bool* masks;                         // [B, C, N] of dense rows, or null
  const int64_t *camera_ids, *gaussian_ids;  // [rows], packed, or null
  int64_t B, N, C, D, rows;                     // rows: of the packed form
  int64_t base_count, rest_count;               // coefficients in use
  int64_t base_stride, rest_stride;             // floats from one Gaussian to the next
  int32_t degree;
  bool shift;
  int64_t* refused;  // report of ids out of range (ids.h)
};

cudaError_t launch_sh_fwd(const ShIn& in, float* colors, cudaStream_t stream);

struct ShGrads {
  const float *colors, *v_colors;  // [rows, D]; colors: the forward's result, for `shift`
  float *means;                    // [B, N, 3] or null
  float *base, *rest;              // rows of base_row and rest_row floats; rest may be null
  int64_t base_row, rest_row;
  // Gradient by direction: dense [blocks, images, 3]; packed [images, 3], or [rows, 3] per row.
  double* directions;
  const bool* repeated;  // packed: whether a Gaussian may have several rows
};
// kStore adds atomically where `repeated` holds, and overwrites where not.
enum class ShRows : int { kStore = 0, kPerRow = 1 };

int64_t sh_dense_blocks(int64_t n_gaussians);
// Results are zeroed by the caller.
cudaError_t launch_sh_dense_bwd(const ShIn& in, const ShGrads& g, cudaStream_t stream);
cudaError_t launch_sh_packed_bwd(const ShIn& in, const ShGrads& g, ShRows mode,
                                 cudaStream_t stream);

}  // namespace mmc
