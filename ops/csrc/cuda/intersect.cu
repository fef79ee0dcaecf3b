// Tile lists on the GPU: rows are counted, radix-sorted by depth, expanded to (tile, row) pairs
// in that order, and sorted once more by tile. Both sorts are stable, so ties keep row order.
#include "cuda/intersect.h"

#include "cuda/common.cuh"
#include "math/tiles.h"

namespace mmc {
namespace {

constexpr int kThreads = 256;
constexpr int kLarge = 32;  // splats of more tiles are expanded by a whole warp

// Counting and emitting must agree to the last bit: both call these two, compiled once.
__device__ __noinline__ TileCover<float> cover_of_row(const SplatRows& in, int64_t r) {
  return tile_cover(in.means2d[2 * r], in.means2d[2 * r + 1], in.radii[2 * r],
                    in.radii[2 * r + 1], in.conics ? in.conics + 3 * r : nullptr,
                    in.opacities ? in.opacities + r : nullptr, in.tile_size, in.tile_width,
                    in.tile_height);
}
__device__ __noinline__ bool span_of_row(const TileCover<float>& cover, int32_t ty,
                                         int32_t& begin, int32_t& end) {
  return tile_row_span(cover, ty, begin, end);
}

__device__ __forceinline__ int64_t image_of(const SplatRows& in, int64_t r) {
  const int64_t image = in.image_ids ? in.image_ids[r] : r / in.rows_per_image;
  return id_fits(in.refused, kImageIds, r, image, in.n_images) ? image : -1;
}

__device__ __forceinline__ const bool* mask_of(const SplatRows& in, int64_t image) {
  return in.masks ? in.masks + image * in.tile_height * in.tile_width : nullptr;
}

__global__ void count_kernel(SplatRows in, int32_t* counts, int32_t* flags, int64_t* totals) {
  __shared__ int64_t scratch[kThreads / kWarp];
  const int64_t r = thread_index();
  int32_t count = 0;
  bool negative = false;
  if (r < in.rows) {
    const int64_t image = image_of(in, r);
    if (image >= 0 && in.radii[2 * r] > 0 && in.radii[2 * r + 1] > 0) {
      negative = __float_as_uint(in.depths[r]) >> 31;
      const TileCover<float> cover = cover_of_row(in, r);
      const bool* mask = mask_of(in, image);
      for (int32_t ty = cover.y0; ty < cover.y1; ++ty) {
        int32_t begin, end;
        if (!span_of_row(cover, ty, begin, end)) continue;
        if (!mask) {
          count += end - begin;
        } else {
          for (int32_t tx = begin; tx < end; ++tx) count += mask[int64_t(ty) * in.tile_width + tx];
        }
      }
    }
    counts[r] = count;
    flags[r] = count > 0;
  }
  const int64_t all = block_sum<int64_t>(count, scratch);
  const int visible = __syncthreads_count(count > 0);
  const int any_negative = __syncthreads_or(negative);
  if (threadIdx.x == 0) {
    if (all) atomicAdd(reinterpret_cast<unsigned long long*>(totals), (unsigned long long)all);
    if (visible)
      atomicAdd(reinterpret_cast<unsigned long long*>(totals + 1), (unsigned long long)visible);
    if (any_negative) atomicMax(reinterpret_cast<unsigned long long*>(totals + 2), 1ull);
  }
}

template <typename Id>
__global__ void keys_kernel(SplatRows in, const int32_t* counts, const int64_t* positions,
                            const int64_t* totals, uint32_t* keys, Id* values) {
  const int64_t r = thread_index();
  if (r >= in.rows) return;
  const bool visible = counts[r] > 0;
  const uint32_t key = depth_key(__float_as_uint(in.depths[r]), totals[2] != 0);
  if (positions && !visible) return;
  const int64_t slot = positions ? positions[r] : r;
  keys[slot] = visible ? key : 0xffffffffu;
  values[slot] = static_cast<Id>(r);
}

template <typename Id>
__global__ void gather_kernel(const Id* values, const int32_t* counts, int64_t n, int32_t* out) {
  const int64_t i = thread_index();
  if (i < n) out[i] = counts[values[i]];
}

// A thread writes the tiles of its own row; rows of many tiles are then shared by the warp.
template <typename Id>
__global__ void emit_kernel(SplatRows in, const Id* order, const int32_t* counts,
                            const int64_t* starts, int64_t n, int64_t capacity, uint32_t* tiles,
                            Id* rows) {
  const int64_t i = thread_index();
  const int lane = threadIdx.x % kWarp;
  const int32_t count = i < n ? counts[i] : 0;
  const int64_t tiles_per_image = int64_t(in.tile_height) * in.tile_width;
  if (count > 0 && count <= kLarge) {
    const int64_t r = order[i], image = image_of(in, r);
    const TileCover<float> cover = cover_of_row(in, r);
    const bool* mask = mask_of(in, image);
    int64_t slot = starts[i];
    const int64_t stop = min_(slot + count, capacity);
    for (int32_t ty = cover.y0; ty < cover.y1; ++ty) {
      int32_t begin, end;
      if (!span_of_row(cover, ty, begin, end)) continue;
      for (int32_t tx = begin; tx < end; ++tx) {
        const int64_t tile = int64_t(ty) * in.tile_width + tx;
        if (mask && !mask[tile]) continue;
        if (slot < stop) {
          tiles[slot] = static_cast<uint32_t>(image * tiles_per_image + tile);
          rows[slot] = static_cast<Id>(r);
        }
        ++slot;
      }
    }
  }
  unsigned large = __ballot_sync(kAllLanes, count > kLarge);
  while (large) {
    const int source = __ffs(large) - 1;
    large &= large - 1;
    const int64_t k = i - lane + source;  // lane `source` of this warp owns item k < n
    const int64_t r = order[k], image = image_of(in, r);
    const TileCover<float> cover = cover_of_row(in, r);
    const bool* mask = mask_of(in, image);
    int64_t slot = starts[k];
    const int64_t stop = min_(slot + counts[k], capacity);
    for (int32_t ty = cover.y0; ty < cover.y1; ++ty) {
      int32_t begin, end;
      if (!span_of_row(cover, ty, begin, end)) continue;
      for (int32_t first = begin; first < end; first += kWarp) {
        const int32_t tx = first + lane;
        const int64_t tile = int64_t(ty) * in.tile_width + tx;
        const bool keep = tx < end && (!mask || mask[tile]);
        const unsigned kept = __ballot_sync(kAllLanes, keep);
        const int64_t mine = slot + __popc(kept & ((1u << lane) - 1u));
        if (keep && mine < stop) {
          tiles[mine] = static_cast<uint32_t>(image * tiles_per_image + tile);
          rows[mine] = static_cast<Id>(r);
        }
        slot += __popc(kept);
      }
    }
  }
}

template <typename Id>
__global__ void finish_kernel(SplatRows in, const uint32_t* tiles, const Id* rows,
                              const int64_t* totals, int64_t n, int64_t* isect_ids) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const int64_t tiles_per_image = int64_t(in.tile_height) * in.tile_width;
  const int64_t tile = tiles[i], r = rows[i];
  if (r < 0) {  // unused entry of a list with fixed capacity
    isect_ids[i] = INT64_MAX;
    return;
  }
  const uint32_t key = depth_key(__float_as_uint(in.depths[r]), totals[2] != 0);
  isect_ids[i] = isect_key(tile / tiles_per_image, tile % tiles_per_image, key, in.n_images,
                           tiles_per_image);
}

__global__ void offsets_kernel(const uint32_t* tiles, int64_t n, int64_t all_tiles,
                               int64_t* offsets) {
  const int64_t t = thread_index();
  if (t < all_tiles) offsets[t] = lower_bound(tiles, n, static_cast<uint32_t>(t));
}

}  // namespace

cudaError_t launch_isect_count(const SplatRows& in, int32_t* counts, int32_t* flags,
                               int64_t* totals, cudaStream_t stream) {
  if (in.rows == 0) return cudaSuccess;
  count_kernel<<<blocks_for(in.rows, kThreads), kThreads, 0, stream>>>(in, counts, flags, totals);
  return cudaGetLastError();
}

cudaError_t launch_isect_keys(const SplatRows& in, const int32_t* counts,
                              const int64_t* positions, const int64_t* totals, uint32_t* keys,
                              void* values, bool wide, cudaStream_t stream) {
  if (in.rows == 0) return cudaSuccess;
  const unsigned blocks = blocks_for(in.rows, kThreads);
  if (wide)
    keys_kernel<<<blocks, kThreads, 0, stream>>>(in, counts, positions, totals, keys,
                                                 static_cast<int64_t*>(values));
  else
    keys_kernel<<<blocks, kThreads, 0, stream>>>(in, counts, positions, totals, keys,
                                                 static_cast<int32_t*>(values));
  return cudaGetLastError();
}

cudaError_t launch_isect_gather(const void* values, bool wide, const int32_t* counts, int64_t n,
                                int32_t* out, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  const unsigned blocks = blocks_for(n, kThreads);
  if (wide)
    gather_kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const int64_t*>(values), counts, n,
                                                   out);
  else
    gather_kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const int32_t*>(values), counts, n,
                                                   out);
  return cudaGetLastError();
}

cudaError_t launch_isect_emit(const SplatRows& in, const void* order, bool wide,
                              const int32_t* counts, const int64_t* starts, int64_t n,
                              int64_t capacity, uint32_t* tiles, void* rows,
                              cudaStream_t stream) {
  if (n == 0 || capacity == 0) return cudaSuccess;
  const unsigned blocks = blocks_for(n, kThreads);
  if (wide)
    emit_kernel<<<blocks, kThreads, 0, stream>>>(in, static_cast<const int64_t*>(order), counts,
                                                 starts, n, capacity, tiles,
                                                 static_cast<int64_t*>(rows));
  else
    emit_kernel<<<blocks, kThreads, 0, stream>>>(in, static_cast<const int32_t*>(order), counts,
                                                 starts, n, capacity, tiles,
                                                 static_cast<int32_t*>(rows));
  return cudaGetLastError();
}

cudaError_t launch_isect_finish(const SplatRows& in, const uint32_t* tiles, const void* rows,
                                bool wide, const int64_t* totals, int64_t n, int64_t* isect_ids,
                                int64_t* offsets, cudaStream_t stream) {
  const int64_t all_tiles = in.n_images * in.tile_height * in.tile_width;
  if (all_tiles > 0)
    offsets_kernel<<<blocks_for(all_tiles, kThreads), kThreads, 0, stream>>>(tiles, n, all_tiles,
                                                                             offsets);
  if (n > 0) {
    const unsigned blocks = blocks_for(n, kThreads);
    if (wide)
      finish_kernel<<<blocks, kThreads, 0, stream>>>(
          in, tiles, static_cast<const int64_t*>(rows), totals, n, isect_ids);
    else
      finish_kernel<<<blocks, kThreads, 0, stream>>>(
          in, tiles, static_cast<const int32_t*>(rows), totals, n, isect_ids);
  }
  return cudaGetLastError();
}

}  // namespace mmc
