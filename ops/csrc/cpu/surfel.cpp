// Driver of the CPU compositing of 2D Gaussians (surfels).
#include <ATen/ATen.h>
#include <torch/library.h>

#include <vector>

#include "cpu/raster_plan.h"
#include "math/surfel.h"

namespace mmc {
namespace surfel_cpu {  // several files may be compiled as one
namespace {

using Forward =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
SurfelIn<T> surfel_in(const Tensor& means2d, const Tensor& transforms, const Tensor& features,
                      const Tensor& opacities, const OptTensor& backgrounds, const Tensor& ids,
                      const Plan& plan) {
  const bool wide = ids.scalar_type() == at::kLong;
  return {means2d.const_data_ptr<T>(),
          transforms.const_data_ptr<T>(),
          features.const_data_ptr<T>(),
          opacities.const_data_ptr<T>(),
          backgrounds ? backgrounds->const_data_ptr<T>() : nullptr,
          wide ? nullptr : ids.const_data_ptr<int32_t>(),
          wide ? ids.const_data_ptr<int64_t>() : nullptr,
          features.size(1),
          plan.subs};
}

template <typename T>
Forward forward(const Tensor& means2d, const Tensor& transforms, const Tensor& features,
                const Tensor& opacities, const OptTensor& backgrounds, const Tensor& ids,
                const Plan& plan) {
  const auto in = surfel_in<T>(means2d, transforms, features, opacities, backgrounds, ids, plan);
  check_ids(in.ids32, in.ids64, plan.n_isects, means2d.size(0));
  const auto options = means2d.options();
  const auto sized = [&](int64_t n) {
    return at::empty({plan.images, plan.height, plan.width, n}, options);
  };
  Tensor renders = sized(in.channels), alphas = sized(1), distortion = sized(1),
         median = sized(1), final_t = sized(1), moments = sized(2);
  Tensor last =
      at::empty({plan.images, plan.height, plan.width, 2}, options.dtype(at::kInt));
  Tensor hits = at::zeros({plan.padded * plan.subs}, options.dtype(at::kShort));
  const SurfelOut<T> out{renders.mutable_data_ptr<T>(),
                         alphas.mutable_data_ptr<T>(),
                         distortion.mutable_data_ptr<T>(),
                         median.mutable_data_ptr<T>(),
                         final_t.mutable_data_ptr<T>(),
                         moments.mutable_data_ptr<T>(),
                         last.mutable_data_ptr<int32_t>(),
                         reinterpret_cast<uint16_t*>(hits.mutable_data_ptr<int16_t>())};
  const auto& k = kernels<T>();
  run_jobs<T>(plan.jobs, k.surfel_scratch(in.channels), [&](int32_t j, T* scratch) {
    k.surfel_forward(in, out, plan.jobs[j], scratch);
  });
  return {renders, alphas, distortion, median, final_t, moments, last, hits};
}

template <typename T>
Backward backward(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& v_distortion,
                  const Tensor& v_median, const Tensor& means2d, const Tensor& transforms,
                  const Tensor& features, const Tensor& opacities, const OptTensor& backgrounds,
                  const Tensor& ids, const Tensor& final_t, const Tensor& moments,
                  const Tensor& last, const Tensor& hits, const Plan& plan) {
  const auto in = surfel_in<T>(means2d, transforms, features, opacities, backgrounds, ids, plan);
  const auto options = means2d.options();
  const int64_t rows = means2d.size(0), d = in.channels, sums = kSurfelTerms + d;
  const int64_t n_jobs = static_cast<int64_t>(plan.jobs.size());
  check_ids(in.ids32, in.ids64, plan.n_isects, rows);
  const uint16_t* hit = reinterpret_cast<const uint16_t*>(hits.const_data_ptr<int16_t>());
  std::vector<int64_t> range(rows + 1);
  const auto slots =
      in.ids32 ? assign_slots(in.ids32, hit, plan.n_isects, plan.subs, rows, range.data())
               : assign_slots(in.ids64, hit, plan.n_isects, plan.subs, rows, range.data());
  Buffer<T> partials(range[rows] * sums + 16);
  Tensor job_backgrounds = at::zeros({backgrounds ? n_jobs : 0, d}, options);
  T* vb = backgrounds ? job_backgrounds.mutable_data_ptr<T>() : nullptr;
  const SurfelGradIO<T> io{v_renders.const_data_ptr<T>(),
                           v_alphas.const_data_ptr<T>(),
                           v_distortion.const_data_ptr<T>(),
                           v_median.const_data_ptr<T>(),
                           final_t.const_data_ptr<T>(),
                           moments.const_data_ptr<T>(),
                           last.const_data_ptr<int32_t>(),
                           hit,
                           slots->data,
                           partials.data,
                           nullptr,
                           sums};
  const auto& k = kernels<T>();
  run_jobs<T>(plan.jobs, k.surfel_scratch(d), [&](int32_t j, T* scratch) {
    SurfelGradIO<T> mine = io;
    if (vb) mine.v_backgrounds = vb + j * d;
    k.surfel_backward(in, mine, plan.jobs[j], scratch);
  });
  Tensor v_means = at::empty({rows, 2}, options), v_transforms = at::empty({rows, 3, 3}, options);
  Tensor v_features = at::empty({rows, d}, options), v_opacities = at::empty({rows}, options);
  Tensor v_backgrounds = at::zeros({backgrounds ? plan.images : 0, d}, options);
  T* vm = v_means.mutable_data_ptr<T>();
  T* vt = v_transforms.mutable_data_ptr<T>();
  T* vf = v_features.mutable_data_ptr<T>();
  T* vo = v_opacities.mutable_data_ptr<T>();
  parallel_ranges(rows, 4096, 16, [&](int64_t begin, int64_t end) {
    std::vector<T> total(sums);
    for (int64_t r = begin; r < end; ++r) {
      std::fill(total.begin(), total.end(), T(0));
      for (int64_t s = range[r]; s < range[r + 1]; ++s)
        for (int64_t c = 0; c < sums; ++c) total[c] += partials.data[s * sums + c];
      std::copy_n(&total[kTransform], 9, vt + 9 * r);
      std::copy_n(&total[kCentre], 2, vm + 2 * r);
      vo[r] = total[kOpacity];
      std::copy_n(total.data() + kSurfelTerms, d, vf + d * r);
    }
  });
  if (vb) {
    T* out = v_backgrounds.mutable_data_ptr<T>();
    for (int64_t j = 0; j < n_jobs; ++j)
      for (int64_t c = 0; c < d; ++c) out[plan.jobs[j].image * d + c] += vb[j * d + c];
  }
  return {v_means, v_transforms, v_features, v_opacities, v_backgrounds};
}

Forward surfel_fwd(const Tensor& means2d, const Tensor& transforms, const Tensor& features,
                   const Tensor& opacities, const OptTensor& backgrounds, const OptTensor& masks,
                   const Tensor& isect_offsets, const Tensor& flatten_ids, int64_t width,
                   int64_t height, int64_t tile_size) {
  const Tensor ids = flatten_ids.contiguous();
  const Plan plan = make_plan(isect_offsets.contiguous(), ids, contiguous(masks), std::nullopt,
                              width, height, tile_size);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    return forward<T>(means2d.contiguous(), transforms.contiguous(), features.contiguous(),
                      opacities.contiguous(), contiguous(backgrounds), ids, plan);
  };
  return means2d.scalar_type() == at::kDouble ? run(double(0)) : run(float(0));
}

Backward surfel_bwd(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& v_distortion,
                    const Tensor& v_median, const Tensor& means2d, const Tensor& transforms,
                    const Tensor& features, const Tensor& opacities,
                    const OptTensor& backgrounds, const OptTensor& masks,
                    const Tensor& isect_offsets, const Tensor& flatten_ids, const Tensor& final_t,
                    const Tensor& moments, const Tensor& last, const Tensor& hits, int64_t width,
                    int64_t height, int64_t tile_size) {
  const Tensor ids = flatten_ids.contiguous();
  const Plan plan = make_plan(isect_offsets.contiguous(), ids, contiguous(masks), std::nullopt,
                              width, height, tile_size);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    return backward<T>(v_renders.contiguous(), v_alphas.contiguous(), v_distortion.contiguous(),
                       v_median.contiguous(), means2d.contiguous(), transforms.contiguous(),
                       features.contiguous(), opacities.contiguous(), contiguous(backgrounds),
                       ids, final_t.contiguous(), moments.contiguous(), last.contiguous(),
                       hits.contiguous(), plan);
  };
  return means2d.scalar_type() == at::kDouble ? run(double(0)) : run(float(0));
}

}  // namespace
}  // namespace surfel_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("surfel_fwd", &mmc::surfel_cpu::surfel_fwd);
  m.impl("surfel_bwd", &mmc::surfel_cpu::surfel_bwd);
}
