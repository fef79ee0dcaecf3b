// What the bindings of the CUDA operators share: checks, raw pointers, temporary memory, sorting.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <initializer_list>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cuda/ids.h"
#include "cuda/primitives.h"
#include "math/tiles.h"
#include "stream.h"

namespace mmc {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

// One call of an operator: its name for errors, its device, and its stream for launches.
struct Call {
  const char* op;
  c10::DeviceGuard guard;
  cudaStream_t stream;

  Call(const char* name, const Tensor& like)
      : op(name), guard(like.device()), stream(current_stream(like.device())) {}
  operator cudaStream_t() const { return stream; }
  void operator()(cudaError_t error) const { check_launch(error, op); }
};

// The CUDA backend computes in float32 (the CPU backend also takes float64).
inline void check_float32(const Call& call, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* t : tensors)
    TORCH_CHECK_TYPE(!t->defined() || t->scalar_type() == at::kFloat, "mmcity::", call.op,
                     " on CUDA: expected float32, got ", t->scalar_type());
}

// Where the kernels of a device report ids out of range (ids.h).
int64_t* id_report(const at::Device& device);
// A few whole numbers on the host, after waiting for them, the one way in which operators wait.
// Raises for ids that kernels of this or of earlier calls reported.
std::vector<int64_t> read_numbers(const Call& call, const Tensor& numbers);

inline Tensor contiguous_or_undefined(const OptTensor& t) {
  return t.has_value() && t->defined() ? t->contiguous() : Tensor();
}
template <typename T>
const T* read_or_null(const Tensor& t) {
  return t.defined() && t.numel() > 0 ? t.const_data_ptr<T>() : nullptr;
}
template <typename T>
T* write_or_null(const Tensor& t) {
  return t.defined() && t.numel() > 0 ? t.mutable_data_ptr<T>() : nullptr;
}

// The elements of a tensor at a pointer of any type that a kernel takes: unsigned numbers are
// stored as signed ones. Null where there are none.
template <typename T>
using Stored = typename std::conditional_t<std::is_unsigned_v<T> && (sizeof(T) > 1),
                                           std::make_signed<T>, std::enable_if<true, T>>::type;
struct From {
  const Tensor& tensor;
  template <typename T>
  operator const T*() const {
    return reinterpret_cast<const T*>(read_or_null<Stored<T>>(tensor));
  }
};
struct To {
  const Tensor& tensor;
  template <typename T>
  operator T*() const {
    return reinterpret_cast<T*>(write_or_null<Stored<T>>(tensor));
  }
};
inline From from(const Tensor& tensor) { return {tensor}; }
inline To to(const Tensor& tensor) { return {tensor}; }

// Leading sizes of `t` without its last `drop` ones, then `tail`.
inline std::vector<int64_t> sizes_with(const Tensor& t, int64_t drop,
                                       std::initializer_list<int64_t> tail) {
  std::vector<int64_t> out(t.sizes().begin(), t.sizes().end() - drop);
  out.insert(out.end(), tail.begin(), tail.end());
  return out;
}

// Calls f(temp, bytes) for the size of its temporary memory, then to work.
template <typename F>
void with_temp(const Call& call, const Tensor& like, const F& f) {
  size_t bytes = 0;
  call(f(static_cast<void*>(nullptr), bytes));
  const Tensor temp = at::empty({static_cast<int64_t>(std::max<size_t>(bytes, 1))},
                                like.options().dtype(at::kByte));
  call(f(temp.mutable_data_ptr(), bytes));
}

struct Sorted {
  Tensor keys, values;
};

// Stable sort. Keys: int32 or int64 tensors that are read as unsigned; values int32 or int64.
inline Sorted sort_by_key(const Call& call, const Tensor& keys, const Tensor& values, int bits) {
  const Sorted out{at::empty_like(keys), at::empty_like(values)};
  const int64_t n = keys.numel();
  if (n == 0) return out;
  with_temp(call, keys, [&](void* temp, size_t& bytes) {
    if (keys.scalar_type() == at::kLong)
      return sort_pairs(
          temp, bytes, reinterpret_cast<const uint64_t*>(keys.const_data_ptr<int64_t>()),
          reinterpret_cast<uint64_t*>(out.keys.mutable_data_ptr<int64_t>()),
          values.const_data_ptr<int64_t>(), out.values.mutable_data_ptr<int64_t>(), n, bits, call);
    const uint32_t* in = reinterpret_cast<const uint32_t*>(keys.const_data_ptr<int32_t>());
    uint32_t* to = reinterpret_cast<uint32_t*>(out.keys.mutable_data_ptr<int32_t>());
    if (values.scalar_type() == at::kLong)
      return sort_pairs(temp, bytes, in, to, values.const_data_ptr<int64_t>(),
                        out.values.mutable_data_ptr<int64_t>(), n, bits, call);
    return sort_pairs(temp, bytes, in, to, values.const_data_ptr<int32_t>(),
                      out.values.mutable_data_ptr<int32_t>(), n, bits, call);
  });
  return out;
}

// int64 sums of the int32 numbers before each element.
inline Tensor scan_counts(const Call& call, const Tensor& counts) {
  const Tensor sums = at::empty(counts.sizes(), counts.options().dtype(at::kLong));
  if (counts.numel() == 0) return sums;
  with_temp(call, counts, [&](void* temp, size_t& bytes) {
    return exclusive_sum(temp, bytes, counts.const_data_ptr<int32_t>(),
                         sums.mutable_data_ptr<int64_t>(), counts.numel(), call);
  });
  return sums;
}

}  // namespace mmc
