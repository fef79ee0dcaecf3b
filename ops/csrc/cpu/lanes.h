// Small matrix products between Gaussians and blocks of 16 lanes (voxels or points).
// cp is the number of channels padded to a multiple of 8; rows select Gaussians.
#pragma once
#include <cstdint>

#include "math/hd.h"

namespace mmc {

constexpr int kLanes = 16;
constexpr int kVec = 8;

template <typename T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVec * sizeof(T)), aligned(alignof(T)), may_alias));
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a call that is not inlined
#endif

// out[4 lanes][NV * 8] += sum_k w[k][lane] f[rows[k]][...], for the four lanes from `lane`.
template <typename T, int NV>
MMC_HD void outer_block(const T* w, const int32_t* rows, const uint16_t* masks, int64_t n,
                        const T* f, int64_t cp, int lane, T* out) {
  using V = typename VecOf<T>::type;
  V acc[4][NV];
  for (int i = 0; i < 4; ++i)
    for (int v = 0; v < NV; ++v) acc[i][v] = V{};
  for (int64_t k = 0; k < n; ++k) {
    if (!((masks[k] >> lane) & 0xF)) continue;
    const T* row = f + rows[k] * cp;
    const T* wk = w + k * kLanes + lane;
    V value[NV];
    for (int v = 0; v < NV; ++v) value[v] = *reinterpret_cast<const V*>(row + v * kVec);
    for (int i = 0; i < 4; ++i)
      for (int v = 0; v < NV; ++v) acc[i][v] += wk[i] * value[v];
  }
  for (int i = 0; i < 4; ++i)
    for (int v = 0; v < NV; ++v)
      *reinterpret_cast<V*>(out + (lane + i) * cp + v * kVec) = acc[i][v];
}

// out[16][cp] = sum_k w[k][16] (x) f[rows[k]][cp], in the order of k.
template <typename T>
MMC_HD void outer_sum(const T* w, const int32_t* rows, const uint16_t* masks, int64_t n,
                      const T* f, int64_t cp, T* out) {
  for (int64_t c = 0; c < cp; c += 3 * kVec) {
    const int64_t left = (cp - c) / kVec;
    for (int lane = 0; lane < kLanes; lane += 4) {
      if (left >= 3)
        outer_block<T, 3>(w, rows, masks, n, f + c, cp, lane, out + c);
      else if (left == 2)
        outer_block<T, 2>(w, rows, masks, n, f + c, cp, lane, out + c);
      else
        outer_block<T, 1>(w, rows, masks, n, f + c, cp, lane, out + c);
    }
  }
}

constexpr int kGroup = 4;  // lanes that share their rows of accumulators

// One block of NV * 8 channels of scaled_sums.
template <typename T, int NV>
MMC_HD void scaled_block(const T* w, const int32_t* rows, const int32_t* picked, int64_t n,
                         const T* f, int64_t cp, const T* scale, int64_t lanes, int64_t stride,
                         int64_t room, int64_t width, T* out) {
  using V = typename VecOf<T>::type;
  V acc[kGroup][NV];
  for (int i = 0; i < kGroup; ++i)
    for (int v = 0; v < NV; ++v) acc[i][v] = V{};
  for (int64_t p = 0; p < n; ++p) {
    const int64_t k = picked[p];
    const T* row = f + rows[k] * cp;
    const T* wk = w + k * kLanes;
    V value[NV];
    for (int v = 0; v < NV; ++v) value[v] = *reinterpret_cast<const V*>(row + v * kVec);
    for (int i = 0; i < kGroup; ++i)
      for (int v = 0; v < NV; ++v) acc[i][v] += wk[i] * value[v];
  }
  for (int i = 0; i < kGroup; ++i) {
    if (i >= lanes) break;
    T* to = out + i * stride;
    if (i * stride + NV * kVec <= room) {
      for (int v = 0; v < NV; ++v) *reinterpret_cast<V*>(to + v * kVec) = acc[i][v] * scale[i];
    } else {
      T last[NV * kVec];
      for (int v = 0; v < NV; ++v) *reinterpret_cast<V*>(last + v * kVec) = acc[i][v] * scale[i];
      for (int64_t c = 0; c < width; ++c) to[c] = last[c];
    }
  }
}

// out[lane][channels] = scale[lane] sum_p w[picked[p]][lane] f[rows[picked[p]]][cp] for `lanes`
// of the four lanes at w, in the order of p. `room` values may be written from `out` on; whole
// vectors are written where they fit, so values behind a lane's channels are undefined until the
// next lane is written.
template <typename T>
MMC_HD void scaled_sums(const T* w, const int32_t* rows, const int32_t* picked, int64_t n,
                        const T* f, int64_t cp, const T* scale, int64_t lanes, int64_t channels,
                        int64_t room, T* out) {
  for (int64_t c = (cp - 1) / (3 * kVec) * (3 * kVec); c >= 0; c -= 3 * kVec) {
    const int64_t left = (cp - c) / kVec, width = min_<int64_t>(channels - c, 3 * kVec);
    if (left >= 3)
      scaled_block<T, 3>(w, rows, picked, n, f + c, cp, scale, lanes, channels, room - c, width,
                         out + c);
    else if (left == 2)
      scaled_block<T, 2>(w, rows, picked, n, f + c, cp, scale, lanes, channels, room - c, width,
                         out + c);
    else if (left == 1)
      scaled_block<T, 1>(w, rows, picked, n, f + c, cp, scale, lanes, channels, room - c, width,
                         out + c);
  }
}

// dots[k][16] = sum_c f[rows[k]][c] g[c][16]
template <typename T>
MMC_HD void dot_lanes(const int32_t* rows, int64_t n, const T* f, int64_t cp, int64_t channels,
                      const T* g, T* dots) {
  using V = typename VecOf<T>::type;
  int64_t k = 0;
  for (; k + 4 <= n; k += 4) {
    V acc[4][2];
    const T* row[4];
    for (int i = 0; i < 4; ++i) {
      acc[i][0] = acc[i][1] = V{};
      row[i] = f + rows[k + i] * cp;
    }
    for (int64_t c = 0; c < channels; ++c) {
      const V g0 = *reinterpret_cast<const V*>(g + c * kLanes);
      const V g1 = *reinterpret_cast<const V*>(g + c * kLanes + kVec);
      for (int i = 0; i < 4; ++i) {
        acc[i][0] += row[i][c] * g0;
        acc[i][1] += row[i][c] * g1;
      }
    }
    for (int i = 0; i < 4; ++i) {
      *reinterpret_cast<V*>(dots + (k + i) * kLanes) = acc[i][0];
      *reinterpret_cast<V*>(dots + (k + i) * kLanes + kVec) = acc[i][1];
    }
  }
  for (; k < n; ++k) {
    V acc0 = V{}, acc1 = V{};
    const T* row = f + rows[k] * cp;
    for (int64_t c = 0; c < channels; ++c) {
      acc0 += row[c] * *reinterpret_cast<const V*>(g + c * kLanes);
      acc1 += row[c] * *reinterpret_cast<const V*>(g + c * kLanes + kVec);
    }
    *reinterpret_cast<V*>(dots + k * kLanes) = acc0;
    *reinterpret_cast<V*>(dots + k * kLanes + kVec) = acc1;
  }
}

// v[cp] += sum_lane w[lane] g[lane][cp] over the lanes of the mask
template <typename T, int NV>
MMC_HD void lane_block(const T* w, uint16_t mask, const T* g, int64_t cp, T* v) {
  using V = typename VecOf<T>::type;
  V acc[NV];
  for (int j = 0; j < NV; ++j) acc[j] = *reinterpret_cast<const V*>(v + j * kVec);
  for (unsigned m = mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    for (int j = 0; j < NV; ++j)
      acc[j] += w[lane] * *reinterpret_cast<const V*>(g + lane * cp + j * kVec);
  }
  for (int j = 0; j < NV; ++j) *reinterpret_cast<V*>(v + j * kVec) = acc[j];
}

template <typename T>
MMC_HD void lane_sum(const T* w, uint16_t mask, const T* g, int64_t cp, T* v) {
  for (int64_t c = 0; c < cp; c += 4 * kVec) {
    const int64_t left = (cp - c) / kVec;
    if (left >= 4)
      lane_block<T, 4>(w, mask, g + c, cp, v + c);
    else if (left == 3)
      lane_block<T, 3>(w, mask, g + c, cp, v + c);
    else if (left == 2)
      lane_block<T, 2>(w, mask, g + c, cp, v + c);
    else
      lane_block<T, 1>(w, mask, g + c, cp, v + c);
  }
}

template <typename T>
MMC_HD T sum_lanes(const T* x) {
  T sum = T(0);
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < kLanes; ++i) sum += x[i];
  return sum;
}

}  // namespace mmc
