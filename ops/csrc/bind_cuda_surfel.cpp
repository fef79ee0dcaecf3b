// Compositing of 2D Gaussians (surfels) on CUDA.
#include <ATen/Context.h>

#include "bind_cuda_raster_common.h"
#include "cuda/surfel.h"
#include "math/surfel.h"

namespace mmc {
namespace cuda_surfel {

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Forward surfel_fwd(const Tensor& means2d, const Tensor& transforms, const Tensor& features,
                   const Tensor& opacities, const OptTensor& backgrounds, const OptTensor& masks,
                   const Tensor& isect_offsets, const Tensor& flatten_ids, int64_t width,
                   int64_t height, int64_t tile_size) {
  const Call call("surfel_fwd", means2d);
  const TileInputs tiles(isect_offsets, flatten_ids, masks, std::nullopt, width, height, tile_size,
                         means2d.size(0));
  const Tensor m = means2d.contiguous(), t = transforms.contiguous(), f = features.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  check_float32(call, {&m, &t, &f, &o, &bg});
  const auto options = m.options();
  const auto image = [&](int64_t last) { return at::empty(tiles.shape({last}), options); };
  const Tensor renders = image(f.size(1)), alphas = image(1), distortion = image(1);
  const Tensor median = image(1), final_t = image(1), moments = image(2);
  const Tensor last = at::empty(tiles.shape({2}), options.dtype(at::kInt));
  const Tensor hits = at::zeros({tiles.entries()}, options.dtype(at::kShort));
  const SurfelRows rows{from(m), from(t), from(f), from(o), from(bg), f.size(1)};
  const SurfelOut out{to(renders), to(alphas),  to(distortion), to(median),
                      to(final_t), to(moments), to(last),       to(hits)};
  call(launch_surfel_fwd(tiles.raster, rows, out, call));
  return {renders, alphas, distortion, median, final_t, moments, last, hits};
}

Backward surfel_bwd(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& v_distortion,
                    const Tensor& v_median, const Tensor& means2d, const Tensor& transforms,
                    const Tensor& features, const Tensor& opacities, const OptTensor& backgrounds,
                    const OptTensor& masks, const Tensor& isect_offsets, const Tensor& flatten_ids,
                    const Tensor& final_t, const Tensor& moments, const Tensor& last,
                    const Tensor& hits, int64_t width, int64_t height, int64_t tile_size) {
  const Call call("surfel_bwd", means2d);
  const TileInputs tiles(isect_offsets, flatten_ids, masks, std::nullopt, width, height, tile_size,
                         means2d.size(0));
  const Tensor m = means2d.contiguous(), t = transforms.contiguous(), f = features.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  const Tensor vr = v_renders.contiguous(), va = v_alphas.contiguous();
  const Tensor vd = v_distortion.contiguous(), vm = v_median.contiguous();
  const Tensor ft = final_t.contiguous(), mo = moments.contiguous();
  const Tensor l = last.contiguous(), h = hits.contiguous();
  check_float32(call, {&m, &t, &f, &o, &bg, &vr, &va, &vd, &vm, &ft, &mo});
  const int64_t n = m.size(0), channels = f.size(1), width_sums = kSurfelSums + channels;
  const uint16_t* hit = from(h);
  const SurfelRows rows{from(m), from(t), from(f), from(o), from(bg), channels};
  SurfelGradIo io{from(vr), from(va), from(vd), from(vm), from(ft),  from(mo),
                  from(l),  hit,      nullptr,  nullptr,  width_sums};
  Tensor sums;
  if (at::globalContext().deterministicAlgorithms()) {
    const OrderedSums ordered(call, tiles.raster, hit, h.numel(), width_sums, n, m.options());
    io.slots = from(ordered.slots);
    io.sums = to(ordered.partials);
    if (ordered.n_slots > 0) call(launch_surfel_bwd(tiles.raster, rows, io, call));
    sums = ordered.reduce();
  } else {
    sums = at::zeros({n, width_sums}, m.options());
    io.sums = to(sums);
    if (h.numel() > 0) call(launch_surfel_bwd(tiles.raster, rows, io, call));
  }
  const Tensor v_backgrounds = bg.defined() ? background_gradient(call, tiles, ft, vr)
                                            : at::zeros({0, channels}, m.options());
  return {sums.narrow(1, kCentre, 2).contiguous(),
          sums.narrow(1, kTransform, 9).reshape({n, 3, 3}).contiguous(),
          sums.narrow(1, kSurfelSums, channels).contiguous(), sums.select(1, kOpacity).contiguous(),
          v_backgrounds};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("surfel_fwd", &surfel_fwd);
  m.impl("surfel_bwd", &surfel_bwd);
}

}  // namespace cuda_surfel
}  // namespace mmc
