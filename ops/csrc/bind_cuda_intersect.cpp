// Tile lists on CUDA. Without a capacity there is one synchronisation, to read how many entries
// there are; with max_isects there is none.
#include "bind_cuda_common.h"
#include "cuda/intersect.h"

namespace mmc {
namespace cuda_intersect {

constexpr const char* kOp = "isect_tiles";
using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

uint32_t* as_keys(const Tensor& t) {
  return reinterpret_cast<uint32_t*>(t.mutable_data_ptr<int32_t>());
}

Result isect_tiles(const Tensor& means2d, const Tensor& radii, const Tensor& depths,
                   const OptTensor& conics, const OptTensor& opacities,
                   const OptTensor& image_ids, const OptTensor& masks, int64_t n_images,
                   int64_t tile_size, int64_t tile_width, int64_t tile_height, int64_t max_isects,
                   bool wide_ids) {
  const c10::DeviceGuard guard(means2d.device());
  const cudaStream_t stream = current_stream(means2d.device());
  const Tensor m = means2d.contiguous(), r = radii.contiguous(), d = depths.contiguous();
  const Tensor q = contiguous_or_undefined(conics), o = contiguous_or_undefined(opacities);
  const Tensor ids = contiguous_or_undefined(image_ids), mask = contiguous_or_undefined(masks);
  check_float32(kOp, {&m, &d, &q, &o});
  const int64_t rows = r.numel() / 2, all_tiles = n_images * tile_width * tile_height;
  TORCH_CHECK_VALUE(all_tiles < (int64_t(1) << 32) - 1, "isect_tiles: ", n_images, " images of ",
                    tile_width * tile_height, " tiles are more than 2^32 - 2 tiles");
  const SplatRows in{read_or_null<float>(m),
                     read_or_null<float>(d),
                     read_or_null<float>(q),
                     read_or_null<float>(o),
                     read_or_null<int32_t>(r),
                     read_or_null<int64_t>(ids),
                     read_or_null<bool>(mask),
                     rows,
                     n_images > 0 ? std::max<int64_t>(1, rows / n_images) : 1,
                     n_images,
                     static_cast<int32_t>(tile_size),
                     static_cast<int32_t>(tile_width),
                     static_cast<int32_t>(tile_height)};
  const auto ints = r.options(), longs = r.options().dtype(at::kLong);
  const bool wide = wide_ids || rows >= (int64_t(1) << 31), exact = max_isects < 0;
  const auto id_options = wide ? longs : ints;
  const Tensor counts = at::empty(sizes_with(r, 1, {}), ints);
  const Tensor totals = at::zeros({3}, longs), flags = at::empty({rows}, ints);
  int32_t* count = counts.mutable_data_ptr<int32_t>();
  check_launch(launch_isect_count(in, count, flags.mutable_data_ptr<int32_t>(),
                                  totals.mutable_data_ptr<int64_t>(), stream),
               kOp);
  const Tensor positions = exact ? scan_counts(kOp, flags, stream) : Tensor();
  int64_t ordered = rows, size = max_isects;
  if (exact) {
    const Tensor host = totals.cpu();  // the one synchronisation
    size = host.const_data_ptr<int64_t>()[0];
    ordered = host.const_data_ptr<int64_t>()[1];
  }
  const Tensor keys = at::empty({ordered}, ints), order_in = at::empty({ordered}, id_options);
  check_launch(launch_isect_keys(in, count, read_or_null<int64_t>(positions),
                                 totals.const_data_ptr<int64_t>(), as_keys(keys),
                                 order_in.mutable_data_ptr(), wide, stream),
               kOp);
  const Sorted order = sort_by_key(kOp, keys, order_in, 32, stream);
  const Tensor sorted_counts = at::empty({ordered}, ints);
  check_launch(launch_isect_gather(order.values.const_data_ptr(), wide, count, ordered,
                                   sorted_counts.mutable_data_ptr<int32_t>(), stream),
               kOp);
  const Tensor starts = scan_counts(kOp, sorted_counts, stream);
  // Unused entries sort behind the last tile.
  const Tensor tiles = exact ? at::empty({size}, ints) : at::empty({size}, ints).fill_(
      static_cast<int64_t>(static_cast<int32_t>(static_cast<uint32_t>(all_tiles))));
  const Tensor entries = exact ? at::empty({size}, id_options) : at::full({size}, -1, id_options);
  check_launch(launch_isect_emit(in, order.values.const_data_ptr(), wide,
                                 sorted_counts.const_data_ptr<int32_t>(),
                                 starts.const_data_ptr<int64_t>(), ordered, size, as_keys(tiles),
                                 entries.mutable_data_ptr(), stream),
               kOp);
  const Sorted lists = sort_by_key(kOp, tiles, entries, bits_of(all_tiles + 1), stream);
  const Tensor isect_ids = at::empty({size}, longs);
  const Tensor offsets = at::empty({n_images, tile_height, tile_width}, longs);
  check_launch(launch_isect_finish(in, as_keys(lists.keys), lists.values.const_data_ptr(), wide,
                                   totals.const_data_ptr<int64_t>(), size,
                                   isect_ids.mutable_data_ptr<int64_t>(),
                                   offsets.mutable_data_ptr<int64_t>(), stream),
               kOp);
  return {counts, isect_ids, lists.values, offsets, totals.select(0, 0).clone()};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) { m.impl("isect_tiles", &isect_tiles); }

}  // namespace cuda_intersect
}  // namespace mmc
