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
  constexpr const char* op = "rasterize_fwd";
  const c10::DeviceGuard guard(means2d.device());
  const cudaStream_t stream = current_stream(means2d.device());
  const TileInputs tiles(isect_offsets, flatten_ids, masks, tile_ids, width, height, tile_size);
  const Tensor m = means2d.contiguous(), q = conics.contiguous(), c = colors.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  check_float32(op, {&m, &q, &c, &o, &bg});
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
  const RasterRows rows{read_or_null<float>(m), read_or_null<float>(q), read_or_null<float>(c),
                        read_or_null<float>(o), read_or_null<float>(bg), channels,
                        static_cast<float>(t_stop)};
  const RasterOut out{write_or_null<float>(renders),
                      write_or_null<float>(alphas),
                      write_or_null<float>(final_t),
                      write_or_null<int32_t>(last),
                      reinterpret_cast<uint16_t*>(write_or_null<int16_t>(hits)),
                      write_or_null<int32_t>(touched),
                      write_or_null<float>(peak)};
  check_launch(launch_rasterize_fwd(tiles.raster, rows, out, stream), op);
  return {renders, alphas, final_t, last, hits, touched, peak};
}

Backward rasterize_bwd(const Tensor& v_renders, const Tensor& v_alphas, const Tensor& means2d,
                       const Tensor& conics, const Tensor& colors, const Tensor& opacities,
                       const OptTensor& backgrounds, const OptTensor& masks,
                       const Tensor& isect_offsets, const Tensor& flatten_ids,
                       const OptTensor& tile_ids, const Tensor& final_t, const Tensor& last,
                       const Tensor& hits, int64_t width, int64_t height, int64_t tile_size,
                       bool geometry, bool features, bool absolute) {
  constexpr const char* op = "rasterize_bwd";
  const c10::DeviceGuard guard(means2d.device());
  const cudaStream_t stream = current_stream(means2d.device());
  const TileInputs tiles(isect_offsets, flatten_ids, masks, tile_ids, width, height, tile_size);
  const Tensor m = means2d.contiguous(), q = conics.contiguous(), c = colors.contiguous();
  const Tensor o = opacities.contiguous(), bg = contiguous_or_undefined(backgrounds);
  const Tensor vr = v_renders.contiguous(), va = v_alphas.contiguous();
  const Tensor t = final_t.contiguous(), l = last.contiguous(), h = hits.contiguous();
  check_float32(op, {&m, &q, &c, &o, &bg, &vr, &va, &t});
  const int64_t n = m.size(0), channels = c.size(1);
  const auto options = m.options();
  const auto wanted = [&](bool want, at::IntArrayRef shape) {
    return want ? at::empty(shape, options) : at::empty({0}, options);
  };
  const bool few = channels <= kFewBackward, ordered = at::globalContext().deterministicAlgorithms();
  const Tensor v_means = wanted(geometry, {n, 2}), v_conics = wanted(geometry, {n, 3});
  const Tensor v_opacities = wanted(geometry, {n}), v_absolute = wanted(absolute, {n, 2});
  Tensor v_colors = wanted(features, {n, channels});
  const RasterRows rows{read_or_null<float>(m), read_or_null<float>(q), read_or_null<float>(c),
                        read_or_null<float>(o), read_or_null<float>(bg), channels};
  const uint16_t* hit = reinterpret_cast<const uint16_t*>(read_or_null<int16_t>(h));
  RasterGradIo io{};
  io.v_renders = read_or_null<float>(vr);
  io.v_alphas = read_or_null<float>(va);
  io.final_t = read_or_null<float>(t);
  io.last = read_or_null<int32_t>(l);
  io.hits = hit;
  io.geometry = geometry || absolute;
  io.features = features;
  io.absolute = absolute;
  const int64_t wide = kMomentWidth + (channels + 3) / 4 * 4;
  Tensor moments;
  if (ordered) {
    const OrderedSums sums(op, tiles.raster, hit, h.numel(), wide, n, options, stream);
    io.slots = read_or_null<int64_t>(sums.slots);
    io.moments = write_or_null<float>(sums.partials);
    io.stride = wide;
    if (sums.n_slots > 0) check_launch(launch_rasterize_bwd(tiles.raster, rows, io, stream), op);
    moments = sums.reduce();
  } else {
    io.stride = few ? wide : kMomentWidth;
    moments = at::zeros({n, io.stride}, options);
    io.moments = write_or_null<float>(moments);
    if (!few) io.colors = features ? v_colors.zero_().mutable_data_ptr<float>() : nullptr;
    if (h.numel() > 0) check_launch(launch_rasterize_bwd(tiles.raster, rows, io, stream), op);
  }
  const bool copy = features && (few || ordered);
  const RasterGradients grads{geometry ? write_or_null<float>(v_means) : nullptr,
                              geometry ? write_or_null<float>(v_conics) : nullptr,
                              geometry ? write_or_null<float>(v_opacities) : nullptr,
                              absolute ? write_or_null<float>(v_absolute) : nullptr,
                              copy ? write_or_null<float>(v_colors) : nullptr};
  check_launch(launch_finish_gradients(read_or_null<float>(moments), moments.size(1), rows, n,
                                       grads, stream),
               op);
  const Tensor v_backgrounds =
      bg.defined() ? background_gradient(op, tiles, t, vr, stream) : at::empty({0}, options);
  return {v_means, v_conics, v_colors, v_opacities, v_absolute, v_backgrounds};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("rasterize_fwd", &rasterize_fwd);
  m.impl("rasterize_bwd", &rasterize_bwd);
}

}  // namespace cuda_rasterize
}  // namespace mmc
