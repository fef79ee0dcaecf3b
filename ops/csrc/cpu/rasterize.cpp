// Driver of the CPU rasterizer: cuts images into jobs, runs the tile kernels of the best
// instruction set, and adds up the gradients of each Gaussian in list order, so that results are
// bitwise equal for any number of threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <cstring>
#include <vector>

#include "cpu/isa.h"
#include "cpu/raster_plan.h"
#include "math/alpha.h"

namespace mmc {

const RasterKernels<float>& pick_float_kernels() {
#if defined(MMC_WIDE_ISA)
  if (isa() == Isa::avx512) return raster_kernels_avx512();
  if (isa() == Isa::avx2) return raster_kernels_avx2();
#endif
  return raster_kernels_base();
}

namespace rasterize_cpu {  // several files may be compiled as one
namespace {

template <typename T>
void fill_records(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                  const Tensor& opacities, bool cull, SplatRecord<T>* out) {
  const RowsIn<T> rows{means2d.const_data_ptr<T>(), conics.const_data_ptr<T>(),
                       colors.const_data_ptr<T>(), opacities.const_data_ptr<T>(),
                       means2d.size(0),            colors.size(1)};
  parallel_ranges(rows.n, 4096, 16, [&](int64_t begin, int64_t end) {
    kernels<T>().records(rows, begin, end, cull, out);
  });
}

template <typename T>
RasterIn<T> raster_in(const SplatRecord<T>* records, const Tensor& colors,
                      const OptTensor& backgrounds, const Tensor& flatten_ids, int64_t subs,
                      double t_stop) {
  const bool wide = flatten_ids.scalar_type() == at::kLong;
  return {records,
          colors.const_data_ptr<T>(),
          backgrounds ? backgrounds->const_data_ptr<T>() : nullptr,
          wide ? nullptr : flatten_ids.const_data_ptr<int32_t>(),
          wide ? flatten_ids.const_data_ptr<int64_t>() : nullptr,
          colors.size(1),
          subs,
          static_cast<T>(t_stop)};
}

using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
ForwardResult forward(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                      const Tensor& opacities, const OptTensor& backgrounds, const Plan& plan,
                      const Tensor& flatten_ids, bool masked, bool stats, double t_stop) {
  const int64_t rows = means2d.size(0), channels = colors.size(1);
  std::vector<int64_t> shape{plan.images, plan.height, plan.width};
  if (plan.blocks) shape = {static_cast<int64_t>(plan.jobs.size()) / plan.subs, plan.ts, plan.ts};
  const auto options = means2d.options();
  const auto sized = [&](int64_t last) {
    std::vector<int64_t> out = shape;
    out.push_back(last);
    return out;
  };
  // Blocks may reach beyond the image; those pixels stay empty.
  Tensor renders = plan.blocks ? at::zeros(sized(channels), options)
                               : at::empty(sized(channels), options);
  Tensor alphas = plan.blocks ? at::zeros(sized(1), options) : at::empty(sized(1), options);
  Tensor final_t = plan.blocks ? at::ones(shape, options) : at::empty(shape, options);
  Tensor last = plan.blocks ? at::full(shape, -1, options.dtype(at::kInt))
                            : at::empty(shape, options.dtype(at::kInt));
  const int64_t entries = plan.padded * plan.subs;
  const bool partial = plan.blocks || masked || plan.padded != plan.n_isects;
  Tensor hits = partial ? at::zeros({entries}, options.dtype(at::kShort))
                        : at::empty({entries}, options.dtype(at::kShort));
  Tensor touched = at::zeros({stats ? entries : 0}, options.dtype(at::kInt));
  Tensor peak = at::zeros({stats ? entries : 0}, options);

  Buffer<SplatRecord<T>> records(rows);
  fill_records<T>(means2d, conics, colors, opacities, true, records.data);
  const RasterIn<T> in =
      raster_in<T>(records.data, colors, backgrounds, flatten_ids, plan.subs, t_stop);
  check_ids(in.ids32, in.ids64, plan.n_isects, rows);
  const ForwardOut<T> out{renders.mutable_data_ptr<T>(),
                          alphas.mutable_data_ptr<T>(),
                          final_t.mutable_data_ptr<T>(),
                          last.mutable_data_ptr<int32_t>(),
                          reinterpret_cast<uint16_t*>(hits.mutable_data_ptr<int16_t>()),
                          stats ? touched.mutable_data_ptr<int32_t>() : nullptr,
                          stats ? peak.mutable_data_ptr<T>() : nullptr};
  const auto& k = kernels<T>();
  run_jobs<T>(plan.jobs, k.scratch_size(channels, false),
              [&](int32_t j, T* scratch) { k.forward(in, out, plan.jobs[j], scratch); });
  if (!stats) return {renders, alphas, final_t, last, hits, touched, peak};
  // Fold the statistics of entries into rows: integer sums and maxima, in list order.
  Tensor row_touched = at::zeros({rows}, options.dtype(at::kInt));
  Tensor row_peak = at::zeros({rows}, options);
  int32_t* rt = row_touched.mutable_data_ptr<int32_t>();
  T* rp = row_peak.mutable_data_ptr<T>();
  for (int64_t i = 0; i < plan.n_isects; ++i) {
    const int64_t row = in.ids32 ? in.ids32[i] : in.ids64[i];
    for (int64_t s = 0; s < plan.subs; ++s) {
      rt[row] += out.touched[i * plan.subs + s];
      rp[row] = std::max(rp[row], out.peak[i * plan.subs + s]);
    }
  }
  return {renders, alphas, final_t, last, hits, row_touched, row_peak};
}

using BackwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
BackwardResult backward(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& means2d,
                        const Tensor& conics, const Tensor& colors, const Tensor& opacities,
                        const OptTensor& backgrounds, const Plan& plan, const Tensor& flatten_ids,
                        const Tensor& final_t, const Tensor& last, const Tensor& hits,
                        bool geometry, bool features, bool absolute) {
  const int64_t rows = means2d.size(0), channels = colors.size(1);
  const auto options = means2d.options();
  const auto wanted = [&](bool want, at::IntArrayRef shape) {
    return want ? at::empty(shape, options) : at::empty({0}, options);
  };
  Tensor v_means = wanted(geometry, {rows, 2}), v_conics = wanted(geometry, {rows, 3});
  Tensor v_opacities = wanted(geometry, {rows}), v_colors = wanted(features, {rows, channels});
  Tensor v_absolute = wanted(absolute, {rows, 2});
  Tensor v_backgrounds = backgrounds ? at::zeros({plan.images, channels}, options)
                                     : at::empty({0}, options);
  const int64_t n_jobs = static_cast<int64_t>(plan.jobs.size());
  Tensor job_backgrounds =
      backgrounds ? at::zeros({n_jobs, channels}, options) : at::empty({0}, options);

  Buffer<SplatRecord<T>> records(rows);
  fill_records<T>(means2d, conics, colors, opacities, false, records.data);
  const RasterIn<T> in =
      raster_in<T>(records.data, colors, backgrounds, flatten_ids, plan.subs, 0.0);
  check_ids(in.ids32, in.ids64, plan.n_isects, rows);
  const uint16_t* hit = reinterpret_cast<const uint16_t*>(hits.const_data_ptr<int16_t>());
  std::vector<int64_t> range(rows + 1);
  const auto slots = in.ids32 ? assign_slots(in.ids32, hit, plan.n_isects, plan.subs, rows,
                                             range.data())
                              : assign_slots(in.ids64, hit, plan.n_isects, plan.subs, rows,
                                             range.data());
  const int64_t sums = kAlphaSums + channels + (absolute ? 2 : 0), stride = (sums + 3) / 4 * 4;
  Buffer<T> partials(range[rows] * stride + 4);
  T* vb = backgrounds ? job_backgrounds.mutable_data_ptr<T>() : nullptr;
  BackwardIO<T> io{v_renders.const_data_ptr<T>(),
                   v_alphas.const_data_ptr<T>(),
                   final_t.const_data_ptr<T>(),
                   last.const_data_ptr<int32_t>(),
                   hit,
                   slots->data,
                   partials.data,
                   nullptr,
                   stride,
                   geometry || absolute,
                   features,
                   absolute};
  const auto& k = kernels<T>();
  run_jobs<T>(plan.jobs, k.scratch_size(channels, true), [&](int32_t j, T* scratch) {
    BackwardIO<T> mine = io;
    if (vb) mine.v_backgrounds = vb + j * channels;
    k.backward(in, mine, plan.jobs[j], scratch);
  });
  if (backgrounds) {  // in raster order of tiles
    T* out = v_backgrounds.mutable_data_ptr<T>();
    for (int64_t j = 0; j < n_jobs; ++j)
      for (int64_t c = 0; c < channels; ++c)
        out[plan.jobs[j].image * channels + c] += vb[j * channels + c];
  }

  T* vm = geometry ? v_means.mutable_data_ptr<T>() : nullptr;
  T* vq = geometry ? v_conics.mutable_data_ptr<T>() : nullptr;
  T* vo = geometry ? v_opacities.mutable_data_ptr<T>() : nullptr;
  T* vc = features ? v_colors.mutable_data_ptr<T>() : nullptr;
  T* va = absolute ? v_absolute.mutable_data_ptr<T>() : nullptr;
  const T* q = conics.const_data_ptr<T>();
  const T* o = opacities.const_data_ptr<T>();
  parallel_ranges(rows, 4096, 16, [&](int64_t begin, int64_t end) {
    std::vector<T> total(sums);
    for (int64_t r = begin; r < end; ++r) {
      std::fill(total.begin(), total.end(), T(0));
      for (int64_t s = range[r]; s < range[r + 1]; ++s) {
        const T* p = partials.data + s * stride;
        for (int64_t c = 0; c < sums; ++c) total[c] += p[c];
      }
      if (geometry) {
        const AlphaMoments<T> m = alpha_moments(total.data());
        const AlphaGrads<T> g = alpha_grads(m, q[3 * r], q[3 * r + 1], q[3 * r + 2], o[r]);
        vm[2 * r] = g.mean_x;
        vm[2 * r + 1] = g.mean_y;
        vq[3 * r] = g.conic_a;
        vq[3 * r + 1] = g.conic_b;
        vq[3 * r + 2] = g.conic_c;
        vo[r] = g.opacity;
      }
      if (features) std::copy_n(total.data() + kAlphaSums, channels, vc + r * channels);
      if (absolute)
        for (int k2 = 0; k2 < 2; ++k2)
          va[2 * r + k2] = std::abs(o[r]) * total[kAbsX + channels + k2] / T(kLog2E);
    }
  });
  return {v_means, v_conics, v_colors, v_opacities, v_absolute, v_backgrounds};
}

ForwardResult rasterize_fwd(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                            const Tensor& opacities, const OptTensor& backgrounds,
                            const OptTensor&, const OptTensor& masks, const Tensor& isect_offsets,
                            const Tensor& flatten_ids, const OptTensor& tile_ids, int64_t width,
                            int64_t height, int64_t tile_size, bool stats, double t_stop) {
  const Tensor offsets = isect_offsets.contiguous(), ids = flatten_ids.contiguous();
  const Plan plan = make_plan(offsets, ids, contiguous(masks), contiguous(tile_ids), width,
                              height, tile_size);
  const Tensor m = means2d.contiguous(), q = conics.contiguous(), c = colors.contiguous(),
               o = opacities.contiguous();
  const OptTensor bg = contiguous(backgrounds);
  if (means2d.scalar_type() == at::kDouble)
    return forward<double>(m, q, c, o, bg, plan, ids, masks.has_value(), stats, t_stop);
  return forward<float>(m, q, c, o, bg, plan, ids, masks.has_value(), stats, t_stop);
}

BackwardResult rasterize_bwd(const Tensor& v_renders, const Tensor& v_alphas,
                             const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                             const Tensor& opacities, const OptTensor& backgrounds,
                             const OptTensor& masks, const Tensor& isect_offsets,
                             const Tensor& flatten_ids, const OptTensor& tile_ids,
                             const Tensor& final_t, const Tensor& last, const Tensor& hits,
                             int64_t width, int64_t height, int64_t tile_size, bool geometry,
                             bool features, bool absolute) {
  const Tensor offsets = isect_offsets.contiguous(), ids = flatten_ids.contiguous();
  const Plan plan = make_plan(offsets, ids, contiguous(masks), contiguous(tile_ids), width,
                              height, tile_size);
  const Tensor vr = v_renders.contiguous(), va = v_alphas.contiguous(), m = means2d.contiguous(),
               q = conics.contiguous(), c = colors.contiguous(), o = opacities.contiguous();
  const Tensor t = final_t.contiguous(), l = last.contiguous(), h = hits.contiguous();
  const OptTensor bg = contiguous(backgrounds);
  if (means2d.scalar_type() == at::kDouble)
    return backward<double>(vr, va, m, q, c, o, bg, plan, ids, t, l, h, geometry, features,
                            absolute);
  return backward<float>(vr, va, m, q, c, o, bg, plan, ids, t, l, h, geometry, features,
                         absolute);
}

}  // namespace
}  // namespace rasterize_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("rasterize_fwd", &mmc::rasterize_cpu::rasterize_fwd);
  m.impl("rasterize_bwd", &mmc::rasterize_cpu::rasterize_bwd);
}
