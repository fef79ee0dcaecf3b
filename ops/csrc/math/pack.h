// Sixteen lanes of one scalar type, with the operator set of a scalar, so that one template
// serves scalars (CUDA, oracle checks) and lanes (CPU).
//
// The file is compiled once per instruction set: a translation unit defines MMC_ISA_NS (and
// MMC_ISA_AVX2 or MMC_ISA_AVX512), opens a target region and includes it there. Everything
// lives in the namespace of the instruction set, so that the linker never mixes them.
#pragma once
#include "math/hd.h"

namespace mmc {
namespace MMC_ISA_NS {

constexpr int kLanes = 16;

#if defined(MMC_ISA_AVX2) || defined(MMC_ISA_AVX512)
constexpr int kNativeBytes = 32;
#else
constexpr int kNativeBytes = 16;
#endif

template <typename T>
struct IntOf;
template <>
struct IntOf<float> {
  using type = int32_t;
};
template <>
struct IntOf<double> {
  using type = int64_t;
};

// ---------------------------------------------------------------- compiler vectors, any width
template <typename T>
struct Mask {
  static constexpr int W = kNativeBytes / sizeof(T), P = kLanes / W;
  using Int = typename IntOf<T>::type;
  typedef Int I __attribute__((vector_size(kNativeBytes)));
  I m[P];
  static MMC_HD Mask from_bits(unsigned bits) {
    Mask out;
    for (int p = 0; p < P; ++p)
      for (int l = 0; l < W; ++l) out.m[p][l] = (bits >> (p * W + l)) & 1 ? Int(-1) : Int(0);
    return out;
  }
  friend MMC_HD Mask operator&(const Mask& a, const Mask& b) {
    Mask out;
    MMC_UNROLL for (int p = 0; p < P; ++p) out.m[p] = a.m[p] & b.m[p];
    return out;
  }
  // a without b
  friend MMC_HD Mask and_not(const Mask& a, const Mask& b) {
    Mask out;
    MMC_UNROLL for (int p = 0; p < P; ++p) out.m[p] = a.m[p] & ~b.m[p];
    return out;
  }
  friend MMC_HD unsigned bits(const Mask& a) {
    unsigned out = 0;
    for (int p = 0; p < P; ++p) {
#if defined(MMC_ISA_AVX2) || defined(MMC_ISA_AVX512)
      if constexpr (sizeof(T) == 4) {
        out |= unsigned(_mm256_movemask_ps((__m256)a.m[p])) << (p * W);
        continue;
      }
#elif defined(__SSE2__)
      if constexpr (sizeof(T) == 4) {
        out |= unsigned(_mm_movemask_ps((__m128)a.m[p])) << (p * W);
        continue;
      }
#endif
      for (int l = 0; l < W; ++l) out |= unsigned(a.m[p][l] != 0) << (p * W + l);
    }
    return out;
  }
};

template <typename T>
struct Pack {
  static constexpr int W = kNativeBytes / sizeof(T), P = kLanes / W;
  typedef T V __attribute__((vector_size(kNativeBytes)));
  typedef V VU __attribute__((aligned(sizeof(T)), may_alias));
  using I = typename Mask<T>::I;
  using M = Mask<T>;
  V v[P];

  Pack() = default;
  MMC_HD Pack(T x) {
    MMC_UNROLL for (int p = 0; p < P; ++p) v[p] = x - V{};
  }
  static MMC_HD Pack load(const T* x) {
    Pack out;
    MMC_UNROLL for (int p = 0; p < P; ++p) out.v[p] = reinterpret_cast<const VU*>(x)[p];
    return out;
  }
  MMC_HD void store(T* x) const {
    MMC_UNROLL for (int p = 0; p < P; ++p) reinterpret_cast<VU*>(x)[p] = v[p];
  }
#define MMC_PACK_OP(op)                                                        \
  friend MMC_HD Pack operator op(const Pack& a, const Pack& b) {               \
    Pack out;                                                                  \
    MMC_UNROLL for (int p = 0; p < P; ++p) out.v[p] = a.v[p] op b.v[p];        \
    return out;                                                                \
  }
  MMC_PACK_OP(+)
  MMC_PACK_OP(-)
  MMC_PACK_OP(*)
  MMC_PACK_OP(/)
#undef MMC_PACK_OP
#define MMC_PACK_CMP(name, op)                                                     \
  friend MMC_HD M name(const Pack& a, const Pack& b) {                             \
    M out;                                                                         \
    MMC_UNROLL for (int p = 0; p < P; ++p) out.m[p] = (I)(a.v[p] op b.v[p]);       \
    return out;                                                                    \
  }
  MMC_PACK_CMP(ge, >=)
  MMC_PACK_CMP(gt, >)
  MMC_PACK_CMP(le, <=)
#undef MMC_PACK_CMP
  friend MMC_HD Pack select(const M& m, const Pack& a, const Pack& b) {
    Pack out;
    MMC_UNROLL for (int p = 0; p < P; ++p) out.v[p] = m.m[p] ? a.v[p] : b.v[p];
    return out;
  }
  friend MMC_HD Pack keep(const M& m, const Pack& a) {
    Pack out;
    MMC_UNROLL for (int p = 0; p < P; ++p) out.v[p] = (V)((I)a.v[p] & m.m[p]);
    return out;
  }
  friend MMC_HD Pack min(const Pack& a, const Pack& b) {
    Pack out;
    MMC_UNROLL for (int p = 0; p < P; ++p) out.v[p] = a.v[p] < b.v[p] ? a.v[p] : b.v[p];
    return out;
  }
  friend MMC_HD Pack max(const Pack& a, const Pack& b) {
    Pack out;
    MMC_UNROLL for (int p = 0; p < P; ++p) out.v[p] = a.v[p] > b.v[p] ? a.v[p] : b.v[p];
    return out;
  }
  friend MMC_HD Pack abs(const Pack& a) { return max(a, Pack(T(0)) - a); }
  // a * b + c
  friend MMC_HD Pack fma(const Pack& a, const Pack& b, const Pack& c) {
    Pack out;
#if defined(MMC_ISA_AVX2) || defined(MMC_ISA_AVX512)
    MMC_UNROLL for (int p = 0; p < P; ++p) {
      if constexpr (sizeof(T) == 4)
        out.v[p] = (V)_mm256_fmadd_ps((__m256)a.v[p], (__m256)b.v[p], (__m256)c.v[p]);
      else
        out.v[p] = (V)_mm256_fmadd_pd((__m256d)a.v[p], (__m256d)b.v[p], (__m256d)c.v[p]);
    }
#else
    MMC_UNROLL for (int p = 0; p < P; ++p) out.v[p] = a.v[p] * b.v[p] + c.v[p];
#endif
    return out;
  }
  friend MMC_HD Pack sqrt(const Pack& a) {
    Pack out;
    for (int p = 0; p < P; ++p)
      for (int l = 0; l < W; ++l) out.v[p][l] = sqrt_(a.v[p][l]);
    return out;
  }
  friend MMC_HD Pack reciprocal(const Pack& a) { return Pack(T(1)) / a; }
  friend MMC_HD T sum(const Pack& a) {
    T out = 0;
    for (int p = 0; p < P; ++p)
      for (int l = 0; l < W; ++l) out += a.v[p][l];
    return out;
  }
  friend MMC_HD T max_lane(const Pack& a) {
    T out = a.v[0][0];
    for (int p = 0; p < P; ++p)
      for (int l = 0; l < W; ++l) out = max_(out, T(a.v[p][l]));
    return out;
  }
  // out[i] = sum of the lanes of a[i]
  template <int N>
  static MMC_HD void sums(const Pack (&a)[N], T* out) {
    for (int i = 0; i < N; ++i) {
      V s = a[i].v[0];
      MMC_UNROLL for (int p = 1; p < P; ++p) s += a[i].v[p];
      T total = 0;
      MMC_UNROLL for (int l = 0; l < W; ++l) total += s[l];
      out[i] = total;
    }
  }
};

// Minimax polynomial of 2^r on [-0.5, 0.5], relative error 2e-9 before rounding.
constexpr float kExp2[7] = {1.0f,           0.693147182f,   0.240226462f,  0.0555032864f,
                            0.00961848907f, 0.00133999309f, 0.000153458124f};

MMC_HD Pack<float> exp2(const Pack<float>& x) {
  using F = Pack<float>;
  F out;
  const F p0 = max(x, F(-126.0f));
  const F magic(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const F t = p0 + magic;
  const F r = p0 - (t - magic);
  F y = fma(F(kExp2[6]), r, F(kExp2[5]));
  y = fma(y, r, F(kExp2[4]));
  y = fma(y, r, F(kExp2[3]));
  y = fma(y, r, F(kExp2[2]));
  y = fma(y, r, F(kExp2[1]));
  y = fma(y, r, F(kExp2[0]));
  MMC_UNROLL for (int p = 0; p < F::P; ++p) {
    const F::I n = (F::I)t.v[p] - (F::I)magic.v[p];
    out.v[p] = (F::V)((F::I)y.v[p] + (n << 23));
  }
  return out;
}
MMC_HD Pack<double> exp2(const Pack<double>& x) {
  Pack<double> out;
  for (int p = 0; p < Pack<double>::P; ++p)
    for (int l = 0; l < Pack<double>::W; ++l) out.v[p][l] = ::exp2(x.v[p][l]);
  return out;
}

#if defined(MMC_ISA_AVX512)
// ---------------------------------------------------------------- one AVX-512 register
struct Mask512 {
  __mmask16 m;
  static MMC_HD Mask512 from_bits(unsigned bits) { return {static_cast<__mmask16>(bits)}; }
  friend MMC_HD Mask512 operator&(Mask512 a, Mask512 b) { return {_kand_mask16(a.m, b.m)}; }
  friend MMC_HD Mask512 and_not(Mask512 a, Mask512 b) { return {_kandn_mask16(b.m, a.m)}; }
  friend MMC_HD unsigned bits(Mask512 a) { return _cvtmask16_u32(a.m); }
};

struct Pack512 {
  using M = Mask512;
  __m512 v;
  Pack512() = default;
  MMC_HD Pack512(__m512 x) : v(x) {}
  MMC_HD Pack512(float x) : v(_mm512_set1_ps(x)) {}
  static MMC_HD Pack512 load(const float* x) { return _mm512_loadu_ps(x); }
  MMC_HD void store(float* x) const { _mm512_storeu_ps(x, v); }
  friend MMC_HD Pack512 operator+(Pack512 a, Pack512 b) { return _mm512_add_ps(a.v, b.v); }
  friend MMC_HD Pack512 operator-(Pack512 a, Pack512 b) { return _mm512_sub_ps(a.v, b.v); }
  friend MMC_HD Pack512 operator*(Pack512 a, Pack512 b) { return _mm512_mul_ps(a.v, b.v); }
  friend MMC_HD Pack512 operator/(Pack512 a, Pack512 b) { return _mm512_div_ps(a.v, b.v); }
  friend MMC_HD M ge(Pack512 a, Pack512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
  friend MMC_HD M gt(Pack512 a, Pack512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
  friend MMC_HD M le(Pack512 a, Pack512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
  friend MMC_HD Pack512 select(M m, Pack512 a, Pack512 b) {
    return _mm512_mask_blend_ps(m.m, b.v, a.v);
  }
  friend MMC_HD Pack512 keep(M m, Pack512 a) { return _mm512_maskz_mov_ps(m.m, a.v); }
  friend MMC_HD Pack512 min(Pack512 a, Pack512 b) { return _mm512_min_ps(a.v, b.v); }
  friend MMC_HD Pack512 max(Pack512 a, Pack512 b) { return _mm512_max_ps(a.v, b.v); }
  friend MMC_HD Pack512 abs(Pack512 a) { return _mm512_abs_ps(a.v); }
  friend MMC_HD Pack512 fma(Pack512 a, Pack512 b, Pack512 c) {
    return _mm512_fmadd_ps(a.v, b.v, c.v);
  }
  friend MMC_HD Pack512 sqrt(Pack512 a) { return _mm512_sqrt_ps(a.v); }
  friend MMC_HD Pack512 reciprocal(Pack512 a) {  // one Newton step: about 1 ulp
    const __m512 y = _mm512_rcp14_ps(a.v);
    const __m512 e = _mm512_fnmadd_ps(a.v, y, _mm512_set1_ps(1.0f));
    return _mm512_fmadd_ps(y, e, y);
  }
  friend MMC_HD float sum(Pack512 a) { return _mm512_reduce_add_ps(a.v); }
  friend MMC_HD float max_lane(Pack512 a) { return _mm512_reduce_max_ps(a.v); }

  static MMC_HD __m256 fold(Pack512 a) {
    return _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  }
  static MMC_HD __m256 pair(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  }
  static MMC_HD __m256 quad(__m256 a, __m256 b) {
    const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)),
                         _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
  }
  // The lane sums of four packs, by transposition instead of one reduction each.
  static MMC_HD __m128 sums4(const Pack512* a) {
    const __m256 s = quad(pair(fold(a[0]), fold(a[1])), pair(fold(a[2]), fold(a[3])));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  }
  template <int N>
  static MMC_HD void sums(const Pack512 (&a)[N], float* out) {
    int i = 0;
    MMC_UNROLL for (; i + 8 <= N; i += 8) {
      const __m256 lo = quad(pair(fold(a[i]), fold(a[i + 1])), pair(fold(a[i + 2]), fold(a[i + 3])));
      const __m256 hi =
          quad(pair(fold(a[i + 4]), fold(a[i + 5])), pair(fold(a[i + 6]), fold(a[i + 7])));
      _mm256_storeu_ps(out + i, _mm256_add_ps(_mm256_permute2f128_ps(lo, hi, 0x20),
                                              _mm256_permute2f128_ps(lo, hi, 0x31)));
    }
    if constexpr (N % 8 >= 4) {
      _mm_storeu_ps(out + i, sums4(a + i));
      i += 4;
    }
    if constexpr (N % 4 != 0) {
      const Pack512 zero(0.0f);
      const Pack512 rest[4] = {a[i], N % 4 > 1 ? a[i + 1 < N ? i + 1 : i] : zero,
                               N % 4 > 2 ? a[i + 2 < N ? i + 2 : i] : zero, zero};
      alignas(16) float s[4];
      _mm_store_ps(s, sums4(rest));
      MMC_UNROLL for (int k = 0; k < N % 4; ++k) out[i + k] = s[k];
    }
  }
};

MMC_HD Pack512 exp2(Pack512 x) {
  const __m512 n = _mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(x.v, n);
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(kExp2[6]), r, _mm512_set1_ps(kExp2[5]));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(kExp2[4]));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(kExp2[3]));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(kExp2[2]));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(kExp2[1]));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(kExp2[0]));
  return _mm512_scalef_ps(y, n);
}

template <typename T>
struct LanesOf {
  using type = Pack<T>;
};
template <>
struct LanesOf<float> {
  using type = Pack512;
};
#else
template <typename T>
struct LanesOf {
  using type = Pack<T>;
};
#endif

template <typename T>
using Lanes = typename LanesOf<T>::type;

}  // namespace MMC_ISA_NS
}  // namespace mmc
