// Tile lists on CUDA. Without a capacity there is one synchronisation, to read how many entries
// there are; with max_isects there is none.
#include "bind_cuda_common.h"
#include "cuda/intersect.h"

namespace mmc {
namespace cuda_intersect {

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Result isect_tiles(const Tensor& means2d, const Tensor& radii, const Tensor& depths,
                   const OptTensor& conics, const OptTensor& opacities, const OptTensor& image_ids,
                   const OptTensor& masks, int64_t n_images, int64_t tile_size, int64_t tile_width,
                   int64_t tile_height, int64_t max_isects, bool wide_ids) {
  const Call call("isect_tiles", means2d);
  const Tensor m = means2d.contiguous(), r = radii.contiguous(), d = depths.contiguous();
  const Tensor q = contiguous_or_undefined(conics), o = contiguous_or_undefined(opacities);
  const Tensor ids = contiguous_or_undefined(image_ids), mask = contiguous_or_undefined(masks);
  check_float32(call, {&m, &d, &q, &o});
  const int64_t rows = r.numel() / 2, all_tiles = n_images * tile_width * tile_height;
  TORCH_CHECK_VALUE(all_tiles < (int64_t(1) << 32) - 1, "isect_tiles: ", n_images, " images of ",
                    tile_width * tile_height, " tiles are more than 2^32 - 2 tiles");
  const SplatRows in{from(m), from(d), from(q), from(o), from(r), from(ids), from(mask), rows,
                     n_images > 0 ? std::max<int64_t>(1, rows / n_images) : 1, n_images,
                     static_cast<int32_t>(tile_size), static_cast<int32_t>(tile_width),
                     static_cast<int32_t>(tile_height),
                     id_report(m.device())};
  const auto ints = r.options(), longs = r.options().dtype(at::kLong);
  const bool wide = wide_ids || rows >= (int64_t(1) << 31), exact = max_isects < 0;
  const auto id_options = wide ? longs : ints;
  const Tensor counts = at::empty(sizes_with(r, 1, {}), ints);
  const Tensor totals = at::zeros({3}, longs), flags = at::empty({rows}, ints);
  int32_t* count = to(counts);
  call(launch_isect_count(in, count, to(flags), to(totals), call));
  const Tensor positions = exact ? scan_counts(call, flags) : Tensor();
  int64_t ordered = rows, size = max_isects;
  if (exact) {
    const auto host = read_numbers(call, totals);  // the one synchronisation
    size = host[0];
    ordered = host[1];
  }
  const Tensor keys = at::empty({ordered}, ints), order_in = at::empty({ordered}, id_options);
  call(launch_isect_keys(in, count, from(positions), from(totals), to(keys),
                         order_in.mutable_data_ptr(), wide, call));
  const Sorted order = sort_by_key(call, keys, order_in, 32);
  const Tensor sorted_counts = at::empty({ordered}, ints);
  call(launch_isect_gather(order.values.const_data_ptr(), wide, count, ordered, to(sorted_counts),
                           call));
  const Tensor starts = scan_counts(call, sorted_counts);
  // Unused entries sort behind the last tile.
  const int64_t behind = static_cast<int32_t>(static_cast<uint32_t>(all_tiles));
  const Tensor tiles = exact ? at::empty({size}, ints) : at::full({size}, behind, ints);
  const Tensor entries = exact ? at::empty({size}, id_options) : at::full({size}, -1, id_options);
  call(launch_isect_emit(in, order.values.const_data_ptr(), wide, from(sorted_counts), from(starts),
                         ordered, size, to(tiles), entries.mutable_data_ptr(), call));
  const Sorted lists = sort_by_key(call, tiles, entries, bits_of(all_tiles + 1));
  const Tensor isect_ids = at::empty({size}, longs);
  const Tensor offsets = at::empty({n_images, tile_height, tile_width}, longs);
  call(launch_isect_finish(in, from(lists.keys), lists.values.const_data_ptr(), wide, from(totals),
                           size, to(isect_ids), to(offsets), call));
  return {counts, isect_ids, lists.values, offsets, totals.select(0, 0).clone()};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) { m.impl("isect_tiles", &isect_tiles); }

}  // namespace cuda_intersect
}  // namespace mmc
