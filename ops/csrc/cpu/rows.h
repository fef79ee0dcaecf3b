// Visible (camera, Gaussian) rows of one chunk of Gaussians, for dense and packed layouts.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace mmc {

constexpr int64_t kChunk = 512;  // Gaussians per unit of work; fixes the order of summation
constexpr int kLanes16 = 16;

struct RowList {
  int count;
  int64_t gaussian[kChunk];  // index within the batch
  int64_t row[kChunk];       // index of the row's outputs
};

// A stretch of packed rows with one camera and ascending Gaussians.
struct Run {
  int64_t image, begin, end;
};

inline at::Tensor dense_of(const std::optional<at::Tensor>& t) {
  return t.has_value() && t->defined() ? t->contiguous() : at::Tensor();
}

template <typename T>
inline const T* data_or_null(const at::Tensor& t) {
  return t.defined() && t.numel() ? t.const_data_ptr<T>() : nullptr;
}
template <typename T>
inline T* mutable_or_null(const at::Tensor& t) {
  return t.defined() && t.numel() ? t.data_ptr<T>() : nullptr;
}

// Dense: Gaussians of [n0, n1) whose radii (or mask bytes) are set.
inline void list_dense(RowList& list, const int32_t* radii, const bool* mask, int64_t row0,
                       int64_t n0, int64_t n1) {
  int count = 0;
  for (int64_t n = n0; n < n1; ++n) {
    list.gaussian[count] = n;
    list.row[count] = row0 + n;
    count += radii ? radii[2 * (row0 + n)] > 0 : (mask ? mask[row0 + n] : true);
  }
  list.count = count;
}

// Packed: rows of one run whose Gaussian lies in [n0, n1). The ids are flat over batches.
inline void list_packed(RowList& list, const int64_t* ids, const Run& run, int64_t n0, int64_t n1) {
  const int64_t* first = std::lower_bound(ids + run.begin, ids + run.end, n0);
  int count = 0;
  for (; first != ids + run.end && *first < n1; ++first, ++count) {
    list.gaussian[count] = *first;
    list.row[count] = first - ids;
  }
  list.count = count;
}

// Leading sizes of [..., a, b] with `keep` trailing dimensions dropped.
inline std::vector<int64_t> lead_sizes(const at::Tensor& t, int64_t drop) {
  return {t.sizes().begin(), t.sizes().end() - drop};
}
inline int64_t product(const std::vector<int64_t>& sizes) {
  int64_t n = 1;
  for (const int64_t s : sizes) n *= s;
  return n;
}
inline std::vector<int64_t> join(std::vector<int64_t> lead, std::initializer_list<int64_t> tail) {
  lead.insert(lead.end(), tail.begin(), tail.end());
  return lead;
}

}  // namespace mmc
