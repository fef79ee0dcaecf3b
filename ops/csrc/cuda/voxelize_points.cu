// Points to voxels: cells, runs of equal cells in sorted order, and reductions over runs in the
// order of the points, so that results do not depend on timing.
#include "cuda/voxelize_points.h"

#include "cuda/common.cuh"

namespace mmc {
namespace {

constexpr int kThreads = 256;

__global__ void cells_kernel(const float* points, int64_t n, int64_t width,
                             PointGrid<float> grid, int32_t* coors) {
  const int64_t i = thread_index();
  if (i >= n) return;
  int32_t cell[3];
  const bool inside = point_cell(points + i * width, grid, cell);
  for (int d = 0; d < 3; ++d) coors[3 * i + d] = inside ? cell[2 - d] : -1;
}

__global__ void keys_kernel(const int32_t* coors, int64_t n, int32_t axes, CellExtent extent,
                            uint64_t* keys, int64_t* ids) {
  const int64_t i = thread_index();
  if (i >= n) return;
  int64_t key = 0;
  for (int32_t d = 0; d < axes; ++d) {
    const int64_t c = coors[i * axes + d];
    key = c < 0 || key < 0 ? -1 : key * extent.size[d] + c;
  }
  keys[i] = static_cast<uint64_t>(key < 0 ? extent.cells : key);
  ids[i] = i;
}

__global__ void heads_kernel(const uint64_t* keys, int64_t n, int64_t cells, int32_t* heads) {
  const int64_t i = thread_index();
  if (i < n)
    heads[i] = keys[i] != static_cast<uint64_t>(cells) && (i == 0 || keys[i] != keys[i - 1]);
}

// A thread per slot of a voxel.
__global__ void fill_kernel(HardVoxels in, float* voxels, int32_t* num_points,
                            int64_t* point_ids) {
  const int64_t i = thread_index();
  if (i >= in.voxels * in.max_points) return;
  const int64_t v = i / in.max_points, slot = i % in.max_points, run = in.chosen[v];
  const int64_t begin = in.starts[run];
  const int64_t end = run + 1 < in.runs
                          ? in.starts[run + 1]
                          : lower_bound(in.keys, in.n, static_cast<uint64_t>(in.cells));
  const int64_t count = min_(end - begin, in.max_points);
  if (slot == 0) num_points[v] = static_cast<int32_t>(count);
  const int64_t point = slot < count ? in.order[begin + slot] : -1;
  point_ids[i] = point;
  for (int64_t c = 0; c < in.width; ++c)
    voxels[i * in.width + c] = point >= 0 ? in.points[point * in.width + c] : 0.0f;
}

__global__ void reduce_kernel(const float* feats, const int64_t* order, const int64_t* offsets,
                              int64_t voxels, int64_t channels, Reduction mode, float* out,
                              int64_t* argmax) {
  const int64_t i = thread_index();
  if (i >= voxels * channels) return;
  const int64_t v = i / channels, c = i % channels, begin = offsets[v], end = offsets[v + 1];
  int64_t best = order[begin];
  float value = feats[best * channels + c];
  for (int64_t k = begin + 1; k < end; ++k) {
    const float x = feats[order[k] * channels + c];
    if (mode != Reduction::kMax) {
      value += x;
    } else if (x > value) {  // ties keep the lowest index
      value = x;
      best = order[k];
    }
  }
  if (mode == Reduction::kMean) value /= static_cast<float>(end - begin);
  out[i] = value;
  if (mode == Reduction::kMax) argmax[i] = best;
}

}  // namespace

cudaError_t launch_point_cells(const float* points, int64_t n, int64_t width,
                               const PointGrid<float>& grid, int32_t* coors,
                               cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  cells_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(points, n, width, grid, coors);
  return cudaGetLastError();
}

cudaError_t launch_cell_keys(const int32_t* coors, int64_t n, int32_t axes,
                             const CellExtent& extent, uint64_t* keys, int64_t* ids,
                             cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  keys_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(coors, n, axes, extent, keys, ids);
  return cudaGetLastError();
}

cudaError_t launch_run_heads(const uint64_t* keys, int64_t n, int64_t cells, int32_t* heads,
                             cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  heads_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(keys, n, cells, heads);
  return cudaGetLastError();
}

cudaError_t launch_fill_voxels(const HardVoxels& in, float* voxels, int32_t* num_points,
                               int64_t* point_ids, cudaStream_t stream) {
  const int64_t n = in.voxels * in.max_points;
  if (n == 0) return cudaSuccess;
  fill_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(in, voxels, num_points, point_ids);
  return cudaGetLastError();
}

cudaError_t launch_reduce_voxels(const float* feats, const int64_t* order, const int64_t* offsets,
                                 int64_t voxels, int64_t channels, Reduction mode, float* out,
                                 int64_t* argmax, cudaStream_t stream) {
  const int64_t n = voxels * channels;
  if (n == 0) return cudaSuccess;
  reduce_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(feats, order, offsets, voxels,
                                                                  channels, mode, out, argmax);
  return cudaGetLastError();
}

}  // namespace mmc
