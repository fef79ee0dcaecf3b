// Launcher of TSDF fusion.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "math/tsdf.h"

namespace mmc {

struct TsdfVolume {
  float *tsdf, *weight, *color;  // [blocks, nx, ny, nz(, 3)]; color null without an image
  const int32_t* blocks;         // [blocks, 3]
  int64_t n_blocks, nx, ny, nz;
  double origin[3], voxel_size;
};

// viewmat [4, 4] and K [3, 3] are on the device, in double; view's intrinsics are set from K.
cudaError_t launch_tsdf_integrate(const TsdfVolume& volume, const TsdfView<float>& view,
                                  const double* K, const double* viewmat, const float* image,
                                  cudaStream_t stream);

}  // namespace mmc
