// exp() of lanes: branch-free, so that a loop over lanes becomes vector code.
#pragma once
#include <cstring>

#include "math/hd.h"

namespace mmc {

// exp(x) for x <= 0; below -87 the result is exp(-87), about 1e-38. Relative error below 2e-7:
// 2^n exp(r), n = round(x / ln 2), |r| <= 0.35, Taylor polynomial of degree 7.
MMC_HD float exp_lane(float x) {
#if defined(__CUDA_ARCH__)
  return ::expf(x);
#else
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  x = max_(x, -87.f);
  const float shifted = x * 1.44269504f + kRound;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.f / 5040.f;
  p = p * r + 1.f / 720.f;
  p = p * r + 1.f / 120.f;
  p = p * r + 1.f / 24.f;
  p = p * r + 1.f / 6.f;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const int32_t power = static_cast<int32_t>(
      static_cast<uint32_t>(bits - 0x4B400000 + 127) << 23);
  float scale;
  std::memcpy(&scale, &power, sizeof(scale));
  return p * scale;
#endif
}
MMC_HD double exp_lane(double x) { return ::exp(x); }

}  // namespace mmc
