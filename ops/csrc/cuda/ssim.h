// Launchers of fused SSIM over planes [planes, height, width].
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mmc {

// centers: [2, planes], subtracted from the images. partials: n_partials (0, 3 or 4) maps of all
// planes, in the order mu1, E11, E12, mu2.
cudaError_t launch_ssim_fwd(const float* img1, const float* img2, const float* centers,
                            int64_t planes, int64_t height, int64_t width, int n_partials,
                            float* map, float* partials, cudaStream_t stream);
// v_img2 is written where n_partials is 4.
cudaError_t launch_ssim_bwd(const float* v_map, const float* img1, const float* img2,
                            const float* centers, const float* partials, int64_t planes,
                            int64_t height, int64_t width, int n_partials, float* v_img1,
                            float* v_img2, cudaStream_t stream);

}  // namespace mmc
