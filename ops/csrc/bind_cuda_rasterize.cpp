// Alpha compositing on CUDA. Gradients are summed with atomics, or, when torch is asked for
// deterministic algorithms, through one partial sum per (list entry, window of 8 x 4 pixels).
#include <ATen/Context.h>

#include "bind_cuda_raster_common.h"

namespace mmc {
namespace cuda_rasterize {

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Forward rasterize_fwd(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
                      const Tensor& opacities, const OptTensor& backgrounds, const OptTensor&,
                      const OptTensor& masks, const Tensor& isect_offsets,
                      const Tensor& flatten_ids, const OptTensor& tile_ids, int64_t width,
                      int64_t height, int64_t tile_size, bool stats, double t_stop) {
  const Call call("rasterize_fwd", means2d);
  const TileInputs tiles(isect_offsets, flatten_ids, masks, tile_ids, width, height, tile_size,
                         means2d.size(0));
  const Tensor m = means2d.contiguous(), q = conics.contiguous(), c = colors.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  check_float32(call, {&m, &q, &c, &o, &bg});
  const int64_t n = m.size(0), channels = c.size(1), entries = tiles.entries();
  const auto options = m.options(), ints = m.options().dtype(at::kInt);
  const bool blocks = tile_ids.has_value();
  // Blocks may reach beyond the image; those pixels stay empty.
  const auto image = [&](std::vector<int64_t> tail, double value, const at::TensorOptions& opt) {
    return blocks ? at::full(tiles.shape(tail), value, opt) : at::empty(tiles.shape(tail), opt);
  };
  const Tensor renders = image({channels}, 0, options), alphas = image({1}, 0, options);
  const Tensor final_t = image({}, 1, options), last = image({}, -1, ints);
  const Tensor hits = at::zeros({entries}, options.dtype(at::kShort));
  const Tensor touched = at::zeros({stats ? n : 0}, ints);
  const Tensor peak = at::zeros({stats ? n : 0}, options);
  const RasterRows rows{
      from(m), from(q), from(c), from(o), from(bg), channels, static_cast<float>(t_stop)};
  const RasterOut out{to(renders), to(alphas),  to(final_t), to(last),
                      to(hits),    to(touched), to(peak)};
  call(launch_rasterize_fwd(tiles.raster, rows, out, call));
  return {renders, alphas, final_t, last, hits, touched, peak};
}

Backward rasterize_bwd(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& means2d,
                       const Tensor& conics, const Tensor& colors, const Tensor& opacities,
                       const OptTensor& backgrounds, const OptTensor& masks,
                       const Tensor& isect_offsets, const Tensor& flatten_ids,
                       const OptTensor& tile_ids, const Tensor& final_t, const Tensor& last,
                       const Tensor& hits, int64_t width, int64_t height, int64_t tile_size,
                       bool geometry, bool features, bool absolute) {
  const Call call("rasterize_bwd", means2d);
  const TileInputs tiles(isect_offsets, flatten_ids, masks, tile_ids, width, height, tile_size,
                         means2d.size(0));
  const Tensor m = means2d.contiguous(), q = conics.contiguous(), c = colors.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  const Tensor vr = v_renders.contiguous(), va = v_alphas.contiguous();
  const Tensor t = final_t.contiguous(), l = last.contiguous(), h = hits.contiguous();
  check_float32(call, {&m, &q, &c, &o, &bg, &vr, &va, &t});
  const int64_t n = m.size(0), channels = c.size(1);
  const auto options = m.options();
  const auto wanted = [&](bool want, at::IntArrayRef shape) {
    return want ? at::empty(shape, options) : at::empty({0}, options);
  };
  const bool few = channels <= kFewBackward,
             ordered = at::globalContext().deterministicAlgorithms();
  const Tensor v_means = wanted(geometry, {n, 2}), v_conics = wanted(geometry, {n, 3});
  const Tensor v_opacities = wanted(geometry, {n}), v_absolute = wanted(absolute, {n, 2});
  Tensor v_colors = wanted(features, {n, channels});
  const RasterRows rows{from(m), from(q), from(c), from(o), from(bg), channels};
  const uint16_t* hit = from(h);
  RasterGradIo io{};
  io.v_renders = from(vr);
  io.v_alphas = from(va);
  io.final_t = from(t);
  io.last = from(l);
  io.hits = hit;
  io.geometry = geometry || absolute;
  io.features = features;
  io.absolute = absolute;
  const int64_t wide = kMomentWidth + (channels + 3) / 4 * 4;
  Tensor moments;
  if (ordered) {
    const OrderedSums sums(call, tiles.raster, hit, h.numel(), wide, n, options);
    io.slots = from(sums.slots);
    io.moments = to(sums.partials);
    io.stride = wide;
    if (sums.n_slots > 0) call(launch_rasterize_bwd(tiles.raster, rows, io, call));
    moments = sums.reduce();
  } else {
    io.stride = few ? wide : kMomentWidth;
    moments = at::zeros({n, io.stride}, options);
    io.moments = to(moments);
    if (!few) io.colors = features ? v_colors.zero_().mutable_data_ptr<float>() : nullptr;
    if (h.numel() > 0) call(launch_rasterize_bwd(tiles.raster, rows, io, call));
  }
  const bool copy = features && (few || ordered);
  const RasterGradients grads{to(v_means), to(v_conics), to(v_opacities), to(v_absolute),
                              copy ? write_or_null<float>(v_colors) : nullptr};
  call(launch_finish_gradients(from(moments), moments.size(1), rows, n, grads, call));
  const Tensor v_backgrounds =
      bg.defined() ? background_gradient(call, tiles, t, vr) : at::empty({0}, options);
  return {v_means, v_conics, v_colors, v_opacities, v_absolute, v_backgrounds};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("rasterize_fwd", &rasterize_fwd);
  m.impl("rasterize_bwd", &rasterize_bwd);
}

}  // namespace cuda_rasterize
}  // namespace mmc
