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
  constexpr const char* op = "surfel_fwd";
  const c10::DeviceGuard guard(means2d.device());
  const TileInputs tiles(isect_offsets, flatten_ids, masks, std::nullopt, width, height,
                         tile_size);
  const Tensor m = means2d.contiguous(), t = transforms.contiguous(), f = features.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  check_float32(op, {&m, &t, &f, &o, &bg});
  const auto options = m.options();
  const auto image = [&](int64_t last) { return at::empty(tiles.shape({last}), options); };
  const Tensor renders = image(f.size(1)), alphas = image(1), distortion = image(1);
  const Tensor median = image(1), final_t = image(1), moments = image(2);
  const Tensor last = at::empty(tiles.shape({2}), options.dtype(at::kInt));
  const Tensor hits = at::zeros({tiles.entries()}, options.dtype(at::kShort));
  const SurfelRows rows{read_or_null<float>(m),  read_or_null<float>(t), read_or_null<float>(f),
                        read_or_null<float>(o),  read_or_null<float>(bg), f.size(1)};
  const SurfelOut out{write_or_null<float>(renders),
                      write_or_null<float>(alphas),
                      write_or_null<float>(distortion),
                      write_or_null<float>(median),
                      write_or_null<float>(final_t),
                      write_or_null<float>(moments),
                      write_or_null<int32_t>(last),
                      reinterpret_cast<uint16_t*>(write_or_null<int16_t>(hits))};
  check_launch(launch_surfel_fwd(tiles.raster, rows, out, current_stream(m.device())), op);
  return {renders, alphas, distortion, median, final_t, moments, last, hits};
}

Backward surfel_bwd(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& v_distortion,
                    const Tensor& v_median, const Tensor& means2d, const Tensor& transforms,
                    const Tensor& features, const Tensor& opacities, const OptTensor& backgrounds,
                    const OptTensor& masks, const Tensor& isect_offsets,
                    const Tensor& flatten_ids, const Tensor& final_t, const Tensor& moments,
                    const Tensor& last, const Tensor& hits, int64_t width, int64_t height,
                    int64_t tile_size) {
  constexpr const char* op = "surfel_bwd";
  const c10::DeviceGuard guard(means2d.device());
  const cudaStream_t stream = current_stream(means2d.device());
  const TileInputs tiles(isect_offsets, flatten_ids, masks, std::nullopt, width, height,
                         tile_size);
  const Tensor m = means2d.contiguous(), t = transforms.contiguous(), f = features.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  const Tensor vr = v_renders.contiguous(), va = v_alphas.contiguous();
  const Tensor vd = v_distortion.contiguous(), vm = v_median.contiguous();
  const Tensor ft = final_t.contiguous(), mo = moments.contiguous();
  const Tensor l = last.contiguous(), h = hits.contiguous();
  check_float32(op, {&m, &t, &f, &o, &bg, &vr, &va, &vd, &vm, &ft, &mo});
  const int64_t n = m.size(0), channels = f.size(1), width_sums = kSurfelSums + channels;
  const uint16_t* hit = reinterpret_cast<const uint16_t*>(read_or_null<int16_t>(h));
  const SurfelRows rows{read_or_null<float>(m),  read_or_null<float>(t), read_or_null<float>(f),
                        read_or_null<float>(o),  read_or_null<float>(bg), channels};
  SurfelGradIo io{read_or_null<float>(vr),
                  read_or_null<float>(va),
                  read_or_null<float>(vd),
                  read_or_null<float>(vm),
                  read_or_null<float>(ft),
                  read_or_null<float>(mo),
                  read_or_null<int32_t>(l),
                  hit,
                  nullptr,
                  nullptr,
                  width_sums};
  Tensor sums;
  if (at::globalContext().deterministicAlgorithms()) {
    const OrderedSums ordered(op, tiles.raster, hit, h.numel(), width_sums, n, m.options(),
                              stream);
    io.slots = read_or_null<int64_t>(ordered.slots);
    io.sums = write_or_null<float>(ordered.partials);
    if (ordered.n_slots > 0) check_launch(launch_surfel_bwd(tiles.raster, rows, io, stream), op);
    sums = ordered.reduce();
  } else {
    sums = at::zeros({n, width_sums}, m.options());
    io.sums = write_or_null<float>(sums);
    if (h.numel() > 0) check_launch(launch_surfel_bwd(tiles.raster, rows, io, stream), op);
  }
  const Tensor v_backgrounds = bg.defined() ? background_gradient(op, tiles, ft, vr, stream)
                                            : at::zeros({0, channels}, m.options());
  return {sums.narrow(1, kCentre, 2).contiguous(),
          sums.narrow(1, kTransform, 9).reshape({n, 3, 3}).contiguous(),
          sums.narrow(1, kSurfelSums, channels).contiguous(),
          sums.select(1, 11).contiguous(), v_backgrounds};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("surfel_fwd", &surfel_fwd);
  m.impl("surfel_bwd", &surfel_bwd);
}

}  // namespace cuda_surfel
}  // namespace mmc
