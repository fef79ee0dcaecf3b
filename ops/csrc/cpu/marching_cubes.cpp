// Marching cubes over blocks of voxels: one vertex per cut edge, shared across blocks.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/parallel.h"

namespace mmc {
namespace marching_cubes_cpu {  // several files may be compiled as one
namespace {

constexpr int64_t kSlab = 16;  // cells in x that one unit of work covers

template <typename T>
struct Volume {
  const T *tsdf, *weight, *color;  // [M, X, Y, Z], color [M, X, Y, Z, 3] or empty
  const int32_t* blocks;           // [M, 3]
  const int32_t* table;            // [256, 3 T]
  int64_t table_width;
  int64_t n, dims[3], size;  // blocks, voxels per axis and per block
  T level, min_weight;
  std::vector<int64_t> around;  // [n][8] block at offset (dx, dy, dz) = bits 2, 1, 0; or -1

  void find_neighbours() {
    std::vector<int64_t> order(n);
    for (int64_t i = 0; i < n; ++i) order[i] = i;
    const auto less = [](const int32_t* a, const int32_t* b) {
      return std::lexicographical_compare(a, a + 3, b, b + 3);
    };
    std::sort(order.begin(), order.end(),
              [&](int64_t a, int64_t b) { return less(blocks + 3 * a, blocks + 3 * b); });
    around.resize(8 * n);
    parallel_ranges(n, 4096, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int k = 0; k < 8; ++k) {
          const int32_t* b = blocks + 3 * i;
          const int32_t want[3] = {b[0] + (k >> 2), b[1] + (k >> 1 & 1), b[2] + (k & 1)};
          const auto it = std::lower_bound(
              order.begin(), order.end(), want,
              [&](int64_t a, const int32_t* w) { return less(blocks + 3 * a, w); });
          const bool hit = it != order.end() && std::equal(want, want + 3, blocks + 3 * *it);
          around[8 * i + k] = hit ? *it : -1;
        }
      }
    });
  }

  // Index of voxel (x, y, z) counted from block b, each at most the block's size; -1 if absent.
  int64_t voxel(int64_t b, int64_t x, int64_t y, int64_t z) const {
    const int k = (x == dims[0]) << 2 | (y == dims[1]) << 1 | (z == dims[2]);
    const int64_t owner = around[8 * b + k];
    if (owner < 0) return -1;
    x = x == dims[0] ? 0 : x;
    y = y == dims[1] ? 0 : y;
    z = z == dims[2] ? 0 : z;
    return owner * size + (x * dims[1] + y) * dims[2] + z;
  }

  bool known(int64_t i) const { return weight[i] >= min_weight && std::isfinite(tsdf[i]); }

  // 0: unknown, 1: inside (below the level), 2: outside.
  uint8_t state(int64_t i) const {
    return i < 0 || !known(i) ? 0 : (tsdf[i] < level ? 1 : 2);
  }

  // f(x, y, z, case) for the cells of planes [x0, x1) of block b that the surface cuts.
  template <typename F>
  void for_cut_cells(int64_t b, int64_t x0, int64_t x1, std::vector<uint8_t>& states,
                     const F& f) const {
    const int64_t ny = dims[1] + 1, nz = dims[2] + 1;
    states.resize((x1 - x0 + 1) * ny * nz);
    bool inside = false, outside = false;
    for (int64_t x = x0; x <= x1; ++x)
      for (int64_t y = 0; y < ny; ++y)
        for (int64_t z = 0; z < nz; ++z) {
          const uint8_t s = state(voxel(b, x, y, z));
          states[((x - x0) * ny + y) * nz + z] = s;
          inside |= s == 1;
          outside |= s == 2;
        }
    if (!inside || !outside) return;
    for (int64_t x = x0; x < x1; ++x)
      for (int64_t y = 0; y < dims[1]; ++y)
        for (int64_t z = 0; z < dims[2]; ++z) {
          const uint8_t* s = &states[((x - x0) * ny + y) * nz + z];
          const uint8_t corner[8] = {s[0], s[ny * nz], s[nz], s[ny * nz + nz],
                                     s[1], s[ny * nz + 1], s[nz + 1], s[ny * nz + nz + 1]};
          int code = 0;
          bool complete = true;
          for (int c = 0; c < 8; ++c) {
            complete &= corner[c] != 0;
            code |= (corner[c] == 1) << c;
          }
          if (complete && code != 0 && code != 255) f(x, y, z, code);
        }
  }

  // Voxel that owns an edge of a cell, and its axis.
  int64_t owner_of(int64_t b, int64_t x, int64_t y, int64_t z, int32_t edge, int* axis) const {
    *axis = edge >> 3;
    return voxel(b, x + (edge & 1), y + (edge >> 1 & 1), z + (edge >> 2 & 1));
  }
};

inline int popcount(uint64_t x) { return __builtin_popcountll(x); }

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor> extract(Volume<T>& v, const at::Tensor& like,
                                                       at::ArrayRef<double> origin,
                                                       double voxel_size) {
  v.find_neighbours();
  const int64_t slabs = (v.dims[0] + kSlab - 1) / kSlab, units = v.n * slabs;
  const auto range_of = [&](int64_t unit, int64_t* x0, int64_t* x1) {
    *x0 = unit % slabs * kSlab;
    *x1 = std::min(v.dims[0], *x0 + kSlab);
    return unit / slabs;
  };
  // Pass 1: which of the three edges that a voxel owns carry a vertex (bits), triangles per unit.
  const int64_t words = (v.n * v.size + 7) / 8;
  std::vector<uint64_t> marks(words, 0);
  uint8_t* mark = reinterpret_cast<uint8_t*>(marks.data());
  std::vector<int64_t> face_start(units + 1, 0);
#pragma omp parallel for schedule(dynamic, 8) num_threads(thread_count(units, 8))
  for (int64_t unit = 0; unit < units; ++unit) {
    static thread_local std::vector<uint8_t> states;
    int64_t x0, x1, triangles = 0;
    const int64_t b = range_of(unit, &x0, &x1);
    v.for_cut_cells(b, x0, x1, states, [&](int64_t x, int64_t y, int64_t z, int code) {
      const int32_t* row = v.table + code * v.table_width;
      for (int64_t e = 0; e < v.table_width && row[e] >= 0; ++e) {
        int axis;
        const int64_t owner = v.owner_of(b, x, y, z, row[e], &axis);
        __atomic_fetch_or(mark + owner, static_cast<uint8_t>(1u << axis), __ATOMIC_RELAXED);
        triangles += e % 3 == 0;
      }
    });
    face_start[unit + 1] = triangles;
  }
  for (int64_t u = 0; u < units; ++u) face_start[u + 1] += face_start[u];
  std::vector<int64_t> vertex_start(words + 1, 0);
  for (int64_t w = 0; w < words; ++w) vertex_start[w + 1] = vertex_start[w] + popcount(marks[w]);
  const int64_t n_vertices = vertex_start[words], n_faces = face_start[units];
  TORCH_CHECK_VALUE(n_vertices <= std::numeric_limits<int32_t>::max(),
                    "the mesh has more than 2^31 - 1 vertices: extract it in parts");

  // Pass 2: vertices, in the order of voxels.
  const bool colored = v.color != nullptr;
  at::Tensor vertices = at::empty({n_vertices, 3}, like.options());
  at::Tensor colors = at::empty({colored ? n_vertices : 0, 3}, like.options());
  T *pv = vertices.data_ptr<T>(), *pc = colors.data_ptr<T>();
  parallel_ranges(words, 65536, 1, [&](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      if (!marks[w]) continue;
      int64_t id = vertex_start[w];
      for (int64_t i = 8 * w; i < std::min(8 * w + 8, v.n * v.size); ++i) {
        const int64_t b = i / v.size, local = i % v.size;
        const int64_t xyz[3] = {local / (v.dims[1] * v.dims[2]), local / v.dims[2] % v.dims[1],
                                local % v.dims[2]};
        for (int axis = 0; axis < 3; ++axis) {
          if (!(mark[i] >> axis & 1)) continue;
          const int64_t j = v.voxel(b, xyz[0] + (axis == 0), xyz[1] + (axis == 1),
                                    xyz[2] + (axis == 2));
          const double low = v.tsdf[i], high = v.tsdf[j];
          const double share = (double(v.level) - low) / (high - low);
          for (int a = 0; a < 3; ++a) {
            const double at = double(v.blocks[3 * b + a]) * v.dims[a] + xyz[a] + 0.5 +
                              (a == axis ? share : 0.0);
            pv[3 * id + a] = static_cast<T>(origin[a] + at * voxel_size);
            if (colored)
              pc[3 * id + a] = static_cast<T>(v.color[3 * i + a] * (1 - share) +
                                              v.color[3 * j + a] * share);
          }
          ++id;
        }
      }
    }
  });

  // Pass 3: faces.
  at::Tensor faces = at::empty({n_faces, 3}, like.options().dtype(at::kInt));
  int32_t* pf = faces.data_ptr<int32_t>();
#pragma omp parallel for schedule(dynamic, 8) num_threads(thread_count(units, 8))
  for (int64_t unit = 0; unit < units; ++unit) {
    if (face_start[unit] == face_start[unit + 1]) continue;
    static thread_local std::vector<uint8_t> states;
    int64_t x0, x1, next = 3 * face_start[unit];
    const int64_t b = range_of(unit, &x0, &x1);
    v.for_cut_cells(b, x0, x1, states, [&](int64_t x, int64_t y, int64_t z, int code) {
      const int32_t* row = v.table + code * v.table_width;
      for (int64_t e = 0; e < v.table_width && row[e] >= 0; ++e) {
        int axis;
        const int64_t owner = v.owner_of(b, x, y, z, row[e], &axis);
        const int before = static_cast<int>(owner % 8);
        uint64_t word = 0;  // bytes of the voxels of this word before the owner
        std::memcpy(&word, mark + owner - before, before);
        pf[next++] = static_cast<int32_t>(vertex_start[owner / 8] + popcount(word) +
                                          popcount(mark[owner] & ((1u << axis) - 1u)));
      }
    });
  }
  return {vertices, faces, colors};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> marching_cubes(
    const at::Tensor& tsdf, const at::Tensor& weight, const at::Tensor& color,
    const at::Tensor& blocks, const at::Tensor& table, at::ArrayRef<double> origin,
    double voxel_size, double level, double min_weight) {
  const at::Tensor t = tsdf.contiguous(), w = weight.contiguous(), c = color.contiguous();
  const at::Tensor b = blocks.contiguous(), tab = table.contiguous();
  std::tuple<at::Tensor, at::Tensor, at::Tensor> out;
  AT_DISPATCH_FLOATING_TYPES(t.scalar_type(), "marching_cubes", [&] {
    Volume<scalar_t> v;
    v.tsdf = t.const_data_ptr<scalar_t>();
    v.weight = w.const_data_ptr<scalar_t>();
    v.color = c.numel() ? c.const_data_ptr<scalar_t>() : nullptr;
    v.blocks = b.const_data_ptr<int32_t>();
    v.table = tab.const_data_ptr<int32_t>();
    v.table_width = tab.size(1);
    v.n = t.size(0);
    v.size = 1;
    for (int d = 0; d < 3; ++d) {
      v.dims[d] = t.size(1 + d);
      v.size *= v.dims[d];
    }
    v.level = static_cast<scalar_t>(level);
    v.min_weight = static_cast<scalar_t>(min_weight);
    out = extract(v, t, origin, voxel_size);
  });
  return out;
}

}  // namespace
}  // namespace marching_cubes_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) {
  m.impl("marching_cubes", &mmc::marching_cubes_cpu::marching_cubes);
}
