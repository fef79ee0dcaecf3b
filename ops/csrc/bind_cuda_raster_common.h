// Tiles, ordered sums and background gradients of the compositing operators' bindings.
#pragma once
#include "bind_cuda_common.h"
#include "cuda/rasterize.h"

namespace mmc {

// Lists and tiles of a call; keeps the contiguous tensors alive that `raster` points into.
struct TileInputs {
  Tensor offsets, ids, masks, chosen;
  RasterTiles raster{};

  TileInputs(const Tensor& isect_offsets, const Tensor& flatten_ids, const OptTensor& tile_masks,
             const OptTensor& tile_ids, int64_t width, int64_t height, int64_t tile_size,
             int64_t n_rows)
      : offsets(isect_offsets.contiguous()),
        ids(flatten_ids.contiguous()),
        masks(contiguous_or_undefined(tile_masks)),
        chosen(contiguous_or_undefined(tile_ids)) {
    const bool wide = ids.scalar_type() == at::kLong;
    raster.offsets = from(offsets);
    raster.tile_ids = chosen.defined() ? chosen.const_data_ptr<int64_t>() : nullptr;
    raster.masks = from(masks);
    raster.ids32 = wide || ids.numel() == 0 ? nullptr : ids.const_data_ptr<int32_t>();
    raster.ids64 = wide ? read_or_null<int64_t>(ids) : nullptr;
    raster.n_entries = ids.numel();
    raster.n_images = offsets.size(0);
    raster.n_rows = n_rows;
    raster.refused = id_report(offsets.device());
    raster.th = static_cast<int32_t>(offsets.size(1));
    raster.tw = static_cast<int32_t>(offsets.size(2));
    raster.tile_size = static_cast<int32_t>(tile_size);
    raster.width = static_cast<int32_t>(width);
    raster.height = static_cast<int32_t>(height);
    raster.n_tiles = chosen.defined() ? chosen.numel() : offsets.numel();
    TORCH_CHECK_VALUE(raster.squares() < (int64_t(1) << 31), "rasterize: ", raster.n_tiles,
                      " tiles are more than one launch can take");
  }

  // Squares per tile times list entries.
  int64_t entries() const { return raster.n_entries * raster.side() * raster.side(); }

  // Sizes of an output over all pixels, then `tail`.
  std::vector<int64_t> shape(std::vector<int64_t> tail) const {
    std::vector<int64_t> out{raster.n_images, raster.height, raster.width};
    if (chosen.defined()) out = {raster.n_tiles, raster.tile_size, raster.tile_size};
    out.insert(out.end(), tail.begin(), tail.end());
    return out;
  }
};

// One partial sum per window that an entry reached, added up per row in list order. Costs a
// synchronisation, 4 * width bytes per partial sum and a sort of them.
struct OrderedSums {
  Tensor slots, partials;
  int64_t n_slots = 0;

  OrderedSums(const Call& of, const RasterTiles& lists, const uint16_t* hit, int64_t n_hits,
              int64_t columns, int64_t n_rows, const at::TensorOptions& options)
      : call(of), tiles(lists), hits(hit), width(columns), rows(n_rows) {
    TORCH_CHECK_VALUE(rows < (int64_t(1) << 32), call.op, ": ", rows,
                      " rows are too many for deterministic gradients");
    const Tensor counts = at::zeros({n_hits + 1}, options.dtype(at::kInt));
    call(launch_count_windows(hits, n_hits, to(counts), call));
    slots = scan_counts(call, counts);
    n_slots = read_numbers(call, slots.narrow(0, n_hits, 1))[0];
    partials = at::empty({n_slots, width}, options);
  }

  Tensor reduce() const {
    const auto longs = partials.options().dtype(at::kLong);
    const Tensor keys = at::empty({n_slots}, partials.options().dtype(at::kInt));
    const Tensor numbers = at::empty({n_slots}, longs);
    Sorted sorted{keys, numbers};
    if (n_slots > 0) {
      call(launch_slot_rows(tiles, hits, from(slots), to(keys), to(numbers), call));
      sorted = sort_by_key(call, keys, numbers, bits_of(rows));
    }
    const Tensor sums = at::empty({rows, width}, partials.options());
    call(launch_sum_slots(from(sorted.keys), from(sorted.values), n_slots, from(partials), rows,
                          width, to(sums), call));
    return sums;
  }

 private:
  const Call& call;
  RasterTiles tiles;
  const uint16_t* hits;
  int64_t width, rows;
};

// Gradient of the backgrounds [images, channels], the same in every run.
inline Tensor background_gradient(const Call& call, const TileInputs& tiles, const Tensor& final_t,
                                  const Tensor& v_renders) {
  const int64_t channels = v_renders.size(-1), images = tiles.raster.n_images;
  const int64_t squares = tiles.raster.squares();
  const Tensor sums = at::empty({squares, channels}, v_renders.options());
  call(launch_background_sums(tiles.raster, channels, from(final_t), from(v_renders), to(sums),
                              call));
  if (!tiles.chosen.defined())
    return images ? sums.view({images, -1, channels}).sum(1) : sums.new_zeros({0, channels});
  const int64_t per_image = int64_t(tiles.raster.th) * tiles.raster.tw;
  const int64_t subs = tiles.raster.side() * tiles.raster.side();
  const Tensor image = at::div(tiles.chosen, per_image, "floor").repeat_interleave(subs);
  return sums.new_zeros({images, channels}).index_add(0, image, sums);
}

}  // namespace mmc
