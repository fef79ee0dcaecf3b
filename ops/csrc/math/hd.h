// Qualifiers and scalar functions for code that runs on the host and on the device.
// The math headers hold every formula once: branch-free templates on the scalar type that the
// CPU loops (auto-vectorized over lanes) and the CUDA kernels both call.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define MMC_HD __host__ __device__ __forceinline__
#define MMC_UNROLL _Pragma("unroll")
#else
#define MMC_HD inline __attribute__((always_inline))
#define MMC_UNROLL _Pragma("GCC unroll 8")
#endif

namespace mmc {

MMC_HD float sqrt_(float x) { return ::sqrtf(x); }
MMC_HD double sqrt_(double x) { return ::sqrt(x); }
MMC_HD float exp_(float x) { return ::expf(x); }
MMC_HD double exp_(double x) { return ::exp(x); }
MMC_HD float log_(float x) { return ::logf(x); }
MMC_HD double log_(double x) { return ::log(x); }
MMC_HD float log1p_(float x) { return ::log1pf(x); }
MMC_HD double log1p_(double x) { return ::log1p(x); }
MMC_HD float atan2_(float y, float x) { return ::atan2f(y, x); }
MMC_HD double atan2_(double y, double x) { return ::atan2(y, x); }
MMC_HD float abs_(float x) { return ::fabsf(x); }
MMC_HD double abs_(double x) { return ::fabs(x); }
MMC_HD float ceil_(float x) { return ::ceilf(x); }
MMC_HD double ceil_(double x) { return ::ceil(x); }
MMC_HD float floor_(float x) { return ::floorf(x); }
MMC_HD double floor_(double x) { return ::floor(x); }

template <typename T>
MMC_HD T rsqrt_(T x) {
  return T(1) / sqrt_(x);
}
template <typename T>
MMC_HD T select(bool condition, T yes, T no) {
  return condition ? yes : no;
}
template <typename T>
MMC_HD T min_(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
MMC_HD T max_(T a, T b) {
  return a > b ? a : b;
}
template <typename T>
MMC_HD T clamp_(T x, T lo, T hi) {
  return min_(max_(x, lo), hi);
}

// a*b - c*d without the cancellation that a plain float32 evaluation suffers.
MMC_HD float diff_of_products(float a, float b, float c, float d) {
#if defined(__CUDA_ARCH__)
  const float cd = c * d;
  return fmaf(a, b, -cd) + fmaf(-c, d, cd);
#else
  return static_cast<float>(static_cast<double>(a) * b - static_cast<double>(c) * d);
#endif
}
MMC_HD double diff_of_products(double a, double b, double c, double d) { return a * b - c * d; }

// Constants of the splatting operators.
template <typename T>
struct Splat {
  static constexpr T alpha_min = T(1) / T(255);
  static constexpr T alpha_max = T(0.99);
  static constexpr T t_stop = T(1e-4);
  static constexpr T extent = T(3.33);
  static constexpr T rho_min = T(0.005);
};

}  // namespace mmc
