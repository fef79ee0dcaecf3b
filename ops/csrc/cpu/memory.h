// Allocation of large results.
#pragma once
#include <ATen/ATen.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>

namespace mmc {

// at::empty that asks for huge pages: touching fresh memory in pages of 4 KiB costs more than
// most of our kernels (20 ms for 50 MB).
inline at::Tensor empty_large(at::IntArrayRef shape, const at::TensorOptions& options) {
  at::Tensor out = at::empty(shape, options);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t(1) << 21;
  if (out.nbytes() >= 2 * page) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(out.data_ptr());
    const uintptr_t first = (begin + page - 1) / page * page;
    const uintptr_t last = (begin + out.nbytes()) / page * page;
    // only advice: a refusal leaves the memory as it was
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
  return out;
}

}  // namespace mmc
