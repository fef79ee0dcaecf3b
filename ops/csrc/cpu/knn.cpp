// Exact k-nearest mean distance with a balanced k-d tree over blocks of 16 points.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace mmc {
namespace knn_cpu {  // several files may be compiled as one
namespace {

constexpr int kLeaf = 16;
constexpr int kMaxDepth = 60;

template <typename T>
struct Point {
  T p[3];
  int64_t index;
};

// Complete binary tree in heap order: node 0 is the root, leaf l is node n_leaves - 1 + l and
// holds the points n l / n_leaves .. n (l + 1) / n_leaves. Leaf points are stored as blocks
// x[16] y[16] z[16], unused slots at infinity.
template <typename T>
struct Tree {
  int64_t n = 0, n_leaves = 1;
  std::vector<Point<T>> points;
  std::vector<T> boxes;   // [nodes][6] lower, upper
  std::vector<T> blocks;  // [leaves][3][16]

  int64_t begin_of(int64_t leaf) const { return n * leaf / n_leaves; }

  void build(int64_t node, int64_t first_leaf, int64_t count) {
    const int64_t begin = begin_of(first_leaf), end = begin_of(first_leaf + count);
    T* box = &boxes[node * 6];
    for (int d = 0; d < 3; ++d) {
      box[d] = std::numeric_limits<T>::infinity();
      box[3 + d] = -box[d];
    }
    for (int64_t i = begin; i < end; ++i) {
      for (int d = 0; d < 3; ++d) {
        box[d] = std::min(box[d], points[i].p[d]);
        box[3 + d] = std::max(box[3 + d], points[i].p[d]);
      }
    }
    if (count == 1) {
      T* block = &blocks[first_leaf * 3 * kLeaf];
      std::fill(block, block + 3 * kLeaf, std::numeric_limits<T>::infinity());
      for (int64_t i = begin; i < end; ++i)
        for (int d = 0; d < 3; ++d) block[d * kLeaf + (i - begin)] = points[i].p[d];
      return;
    }
    int axis = 0;
    for (int d = 1; d < 3; ++d)
      if (box[3 + d] - box[d] > box[3 + axis] - box[axis]) axis = d;
    const int64_t half = count / 2, middle = begin_of(first_leaf + half);
    std::nth_element(points.begin() + begin, points.begin() + middle, points.begin() + end,
                     [axis](const Point<T>& a, const Point<T>& b) { return a.p[axis] < b.p[axis]; });
    if (end - begin > 16384) {
#pragma omp task
      build(2 * node + 1, first_leaf, half);
      build(2 * node + 2, first_leaf + half, count - half);
#pragma omp taskwait
    } else {
      build(2 * node + 1, first_leaf, half);
      build(2 * node + 2, first_leaf + half, count - half);
    }
  }

  void build_all() {
    n = static_cast<int64_t>(points.size());
    while (n > n_leaves * kLeaf) n_leaves *= 2;
    boxes.resize((2 * n_leaves - 1) * 6);
    blocks.resize(n_leaves * 3 * kLeaf);
#pragma omp parallel num_threads(thread_count(n, 32768))
#pragma omp single
    build(0, 0, n_leaves);
  }
};

template <typename T>
struct QueryArgs {
  const Point<T>* points;
  const T *boxes, *blocks;  // [nodes, 6], [leaves, 3, 16]
  int64_t n, n_leaves;
  int64_t k;
  T* best;  // scratch [k]
  T* out;
};

// Mean squared distance to the k nearest of every point of the leaves first .. last.
template <typename T>
struct QueryLeaves {
  static MMC_HD T box_dist2(const T* box, const T* q) {
    T sum = T(0);
    for (int d = 0; d < 3; ++d) {
      const T off = max_(max_(box[d] - q[d], q[d] - box[3 + d]), T(0));
      sum += off * off;
    }
    return sum;
  }

  // Squared distances to the 16 points of a leaf; smaller ones enter the sorted list `best`.
  static MMC_HD void visit(const QueryArgs<T>& a, int64_t leaf, const T* q, int64_t skip) {
    const T* block = a.blocks + leaf * 3 * kLeaf;
    const T q0 = q[0], q1 = q[1], q2 = q[2];
    T dist[kLeaf];
#pragma omp simd
    for (int i = 0; i < kLeaf; ++i) {
      const T x = block[i] - q0, y = block[kLeaf + i] - q1, z = block[2 * kLeaf + i] - q2;
      dist[i] = x * x + y * y + z * z;
    }
    if (skip >= 0) dist[skip] = std::numeric_limits<T>::infinity();
    T* best = a.best;
    const int64_t k = a.k;
    unsigned mask = 0;
    const T worst = best[k - 1];
    for (int i = 0; i < kLeaf; ++i) mask |= unsigned(dist[i] < worst) << i;
    while (mask) {
      const T d = dist[__builtin_ctz(mask)];
      mask &= mask - 1;
      if (!(d < best[k - 1])) continue;
      int64_t j = k - 1;
      for (; j > 0 && best[j - 1] > d; --j) best[j] = best[j - 1];
      best[j] = d;
    }
  }

  static MMC_HD void descend(const QueryArgs<T>& a, int64_t root, const T* q) {
    int64_t stack[kMaxDepth];
    T dist[kMaxDepth];
    int depth = 0;
    int64_t node = root;
    for (;;) {
      while (node < a.n_leaves - 1) {
        const int64_t left = 2 * node + 1;
        const T dl = box_dist2(a.boxes + left * 6, q), dr = box_dist2(a.boxes + left * 6 + 6, q);
        const bool near_left = dl <= dr;
        const T far = near_left ? dr : dl;
        if (far < a.best[a.k - 1]) {
          stack[depth] = near_left ? left + 1 : left;
          dist[depth++] = far;
        }
        node = near_left ? left : left + 1;
      }
      visit(a, node - (a.n_leaves - 1), q, -1);
      for (;;) {
        if (depth == 0) return;
        --depth;
        if (dist[depth] < a.best[a.k - 1]) break;
      }
      node = stack[depth];
    }
  }

  static MMC_HD void run(QueryArgs<T> a, int64_t first, int64_t last) {
    for (int64_t leaf = first; leaf < last; ++leaf) {
      const int64_t begin = a.n * leaf / a.n_leaves, end = a.n * (leaf + 1) / a.n_leaves;
      for (int64_t i = begin; i < end; ++i) {
        const T* q = a.points[i].p;
        for (int64_t j = 0; j < a.k; ++j) a.best[j] = std::numeric_limits<T>::infinity();
        visit(a, leaf, q, i - begin);
        for (int64_t node = a.n_leaves - 1 + leaf; node > 0; node = (node - 1) / 2) {
          const int64_t sibling = node & 1 ? node + 1 : node - 1;
          if (box_dist2(a.boxes + sibling * 6, q) < a.best[a.k - 1]) descend(a, sibling, q);
        }
        T sum = T(0);
        for (int64_t j = 0; j < a.k; ++j) sum += a.best[j];
        a.out[a.points[i].index] = sum / T(a.k);
      }
    }
  }
};

template <typename T>
void knn_all(const T* xyz, int64_t n, int64_t k, T* out) {
  Tree<T> tree;
  tree.points.reserve(n);
  for (int64_t i = 0; i < n; ++i) {
    const T* p = xyz + 3 * i;
    if (std::isfinite(p[0]) && std::isfinite(p[1]) && std::isfinite(p[2]))
      tree.points.push_back({{p[0], p[1], p[2]}, i});
    else
      out[i] = std::numeric_limits<T>::quiet_NaN();
  }
  if (tree.points.empty()) return;
  tree.build_all();
  k = std::min<int64_t>(k, tree.n - 1);
  if (k == 0) {
    out[tree.points[0].index] = T(0);
    return;
  }
  parallel_ranges(tree.n_leaves, 256, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> best(k);
    const QueryArgs<T> args{tree.points.data(), tree.boxes.data(), tree.blocks.data(), tree.n,
                            tree.n_leaves, k, best.data(), out};
    dispatch<QueryLeaves<T>>(args, begin, end);
  });
}

at::Tensor knn_mean_dist2(const at::Tensor& points, int64_t k) {
  const at::Tensor p = points.contiguous();
  at::Tensor out = at::empty({p.size(0)}, p.options());
  AT_DISPATCH_FLOATING_TYPES(p.scalar_type(), "knn_mean_dist2", [&] {
    knn_all(p.const_data_ptr<scalar_t>(), p.size(0), k, out.data_ptr<scalar_t>());
  });
  return out;
}

}  // namespace
}  // namespace knn_cpu
}  // namespace mmc

TORCH_LIBRARY_IMPL(mmcity, CPU, m) { m.impl("knn_mean_dist2", &mmc::knn_cpu::knn_mean_dist2); }
