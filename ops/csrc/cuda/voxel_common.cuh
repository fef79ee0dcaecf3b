// Gaussians in grids: prepared form, lists of bricks, and sums of gradients over a block.
#pragma once
#include "cuda/common.cuh"
#include "math/bricks.h"
#include "math/voxel.h"

namespace mmc {

struct GridGaussian {
  float mean[3], amp;
  Whitening<float> white;
  IndexBox box;
};

// What a block adds up for one Gaussian: its moments (voxel.h), then a group of channels.
// t: e times the gradient by e; w_grad: e times the gradient by the weight.
__device__ __forceinline__ void add_voxel_moments(float* m, float w_grad, float t,
                                                  const float* y) {
  m[kAmp] += w_grad;
#pragma unroll
  for (int k = 0; k < 3; ++k) m[kTy + k] = fmaf(t, y[k], m[kTy + k]);
  int at = kTyy;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      m[at] = fmaf(t * y[i], y[j], m[at]);
      ++at;
    }
  }
}

// Adds the block's moments to `total` [kMoments] and writes the channels of its group.
template <int CB>
__device__ __forceinline__ void reduce_block(const float (&m)[kMoments], const float (&color)[CB],
                                             int64_t channels, float* scratch, float* total,
                                             float* v_features) {
#pragma unroll
  for (int k = 0; k < kMoments; ++k) {
    const float sum = block_sum(m[k], scratch);
    if (threadIdx.x == 0) total[k] += sum;
  }
#pragma unroll
  for (int k = 0; k < CB; ++k) {
    if (k < channels) {  // the same for the whole block
      const float sum = block_sum(color[k], scratch);
      if (threadIdx.x == 0) v_features[k] = sum;
    }
  }
}

// Whitened offset of a point.
__device__ __forceinline__ void whiten(const GridGaussian& g, float x, float y, float z,
                                       float* out) {
  const float* w = g.white.w;
  const float dx = x - g.mean[0], dy = y - g.mean[1], dz = z - g.mean[2];
  out[0] = w[0] * dx;
  out[1] = fmaf(w[1], dx, w[2] * dy);
  out[2] = fmaf(w[3], dx, fmaf(w[4], dy, w[5] * dz));
}
__device__ __forceinline__ float whitened_exp(const float* y) {
  return exp_lane(-fmaf(y[0], y[0], fmaf(y[1], y[1], y[2] * y[2])));
}

}  // namespace mmc
