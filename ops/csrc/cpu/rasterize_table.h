// Fills the table of kernels of one instruction set. Included inside the target region.
#pragma once
#include "cpu/rasterize_many.h"
#include "cpu/surfel_tile.h"

namespace mmc {
namespace MMC_ISA_NS {

template <typename T>
void make_records(const RowsIn<T>& in, int64_t begin, int64_t end, bool cull,
                  SplatRecord<T>* out) {
  const int64_t kept = in.channels <= kFewChannels ? in.channels : 0;
  EllipseBands<T> bands;
  for (int64_t first = begin; first < end; first += 16) {
    const int n = static_cast<int>(min_<int64_t>(16, end - first));
    alignas(64) T a[16] = {}, b[16] = {}, c[16] = {}, level[16] = {};
    for (int l = 0; l < n; ++l) {
      const int64_t i = first + l;
      a[l] = in.conics[3 * i];
      b[l] = in.conics[3 * i + 1];
      c[l] = in.conics[3 * i + 2];
      level[l] = in.opacities[i];
    }
    if (cull) {
      for (int l = 0; l < 16; ++l) level[l] = alpha_level(level[l]);
      bands.compute(a, b, c, level);
    }
    for (int l = 0; l < n; ++l) {
      const int64_t i = first + l;
      SplatRecord<T>& s = out[i];
      const ScaledConic<T> scaled = scale_conic(a[l], b[l], c[l]);
      s.x = in.means2d[2 * i];
      s.y = in.means2d[2 * i + 1];
      s.a = scaled.a;
      s.b = scaled.b;
      s.c = scaled.c;
      s.opacity = in.opacities[i];
      for (int64_t k = 0; k < kept; ++k) s.color[k] = in.colors[i * in.channels + k];
      for (int64_t k = kept; k < kFewChannels; ++k) s.color[k] = T(0);
      if (cull) {
        s.half_y = bands.half_y[l];
        s.skew = bands.skew[l];
        s.slope = bands.slope[l];
        s.ta = bands.ta[l];
        s.da = bands.da[l];
      }
    }
  }
}

template <typename T>
int64_t scratch_size(int64_t channels, bool backward) {
  return channels <= kFewChannels ? 0 : many_scratch<T>(channels, backward);
}

template <typename T, int D>
MMC_HD void forward_d(const RasterIn<T>& in, const ForwardOut<T>& out, const TileJob& job) {
  if (out.touched)
    forward_few<T, D, true>(in, out, job, nullptr);
  else
    forward_few<T, D, false>(in, out, job, nullptr);
}
template <typename T>
void forward_any(const RasterIn<T>& in, const ForwardOut<T>& out, const TileJob& job,
                 T* scratch) {
  switch (in.channels) {
    case 1: return forward_d<T, 1>(in, out, job);
    case 2: return forward_d<T, 2>(in, out, job);
    case 3: return forward_d<T, 3>(in, out, job);
    case 4: return forward_d<T, 4>(in, out, job);
    default:
      if (out.touched) return forward_many<T, true>(in, out, job, scratch);
      return forward_many<T, false>(in, out, job, scratch);
  }
}

template <typename T, int D>
MMC_HD void backward_d(const RasterIn<T>& in, const BackwardIO<T>& io, const TileJob& job) {
  if (io.absolute)
    backward_few<T, D, true, true>(in, io, job, nullptr);
  else if (io.geometry)
    backward_few<T, D, true, false>(in, io, job, nullptr);
  else
    backward_few<T, D, false, false>(in, io, job, nullptr);
}
template <typename T>
void backward_any(const RasterIn<T>& in, const BackwardIO<T>& io, const TileJob& job,
                  T* scratch) {
  switch (in.channels) {
    case 1: return backward_d<T, 1>(in, io, job);
    case 2: return backward_d<T, 2>(in, io, job);
    case 3: return backward_d<T, 3>(in, io, job);
    case 4: return backward_d<T, 4>(in, io, job);
    default: return backward_many<T>(in, io, job, scratch);
  }
}

template <typename T>
const RasterKernels<T>& kernel_table() {
  static const RasterKernels<T> table = {
      &make_records<T>,      &scratch_size<T>,   &forward_any<T>,     &backward_any<T>,
      &surfel_scratch<T>,    &surfel_forward<T>, &surfel_backward<T>,
  };
  return table;
}

}  // namespace MMC_ISA_NS
}  // namespace mmc
