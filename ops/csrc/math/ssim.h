// Structural similarity of one pixel from its windowed moments, and the derivatives of it.
// Moments are those of the images less a center, a constant per plane: variances of flat pictures
// would drown in the rounding of the squares otherwise. Any center gives the same map.
#pragma once
#include "math/hd.h"

namespace mmc {

// Gaussian window of 11 taps, sigma 1.5, normalized; tap i and 10 - i are equal.
constexpr int kSsimRadius = 5;
template <typename T>
struct SsimWindow {
  // exp(-(i - 5)^2 / 4.5) / sum, i = 0..5
  static constexpr T taps[6] = {
      T(0.00102838008447911), T(0.00759875813523919), T(0.03600077212843083),
      T(0.10936068950970002), T(0.21300553771125370), T(0.26601172486179436)};
};

template <typename T>
struct SsimTerms {
  T a, b, c, d;  // map = c d / (a b)
};

// Places of the window means that a pixel needs (of the centered images and of their products),
// and of the derivatives that the backward needs.
enum SsimMean { kMu1, kMu2, kE11, kE22, kE12, kSsimMeans };
enum SsimPartial { kByMu1, kByE11, kByE12, kByMu2, kSsimPartials };

// mu, e: window means of the centered images and of their products. Dynamic range 1.
template <typename T>
MMC_HD SsimTerms<T> ssim_terms(T mu1, T mu2, T e11, T e22, T e12, T center1, T center2) {
  constexpr T c1 = T(1e-4), c2 = T(9e-4);
  const T var1 = max_(e11 - mu1 * mu1, T(0));
  const T var2 = max_(e22 - mu2 * mu2, T(0));
  const T cov = e12 - mu1 * mu2;
  mu1 += center1;
  mu2 += center2;
  return {mu1 * mu1 + mu2 * mu2 + c1, var1 + var2 + c2, T(2) * mu1 * mu2 + c1, T(2) * cov + c2};
}

template <typename T>
MMC_HD T ssim_map(const SsimTerms<T>& t) {
  return (t.c * t.d) / (t.a * t.b);
}

// Derivatives of the map by mu1 (through the variances too), E11 (= by E22), E12 and mu2.
template <typename T>
struct SsimPartials {
  T mu1, e11, e12, mu2;
};
static_assert(kSsimPartials * sizeof(float) == sizeof(SsimPartials<float>));

template <typename T>
MMC_HD SsimPartials<T> ssim_partials(const SsimTerms<T>& t, T mu1, T mu2, T center1, T center2) {
  const T inv = T(1) / (t.a * t.b);
  const T map = t.c * t.d * inv;
  // times the mean of the other image and of the image itself, as it is and centered
  const T other = T(2) * t.d * inv, self = T(-2) * map / t.a;
  const T other_centered = T(-2) * t.c * inv, self_centered = T(2) * map / t.b;
  const T full1 = mu1 + center1, full2 = mu2 + center2;
  return {full2 * other + full1 * self + (mu2 * other_centered + mu1 * self_centered),
          -map / t.b, T(2) * t.c * inv,
          full1 * other + full2 * self + (mu1 * other_centered + mu2 * self_centered)};
}

// Gradient of one image's pixel from the blurred gradients of its mean, E11 and E12; own and
// other are the centered pixels.
template <typename T>
MMC_HD T ssim_image_grad(T by_mean, T by_square, T by_product, T own, T other) {
  return by_mean + T(2) * own * by_square + other * by_product;
}

}  // namespace mmc
