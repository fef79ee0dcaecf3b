// Loops over items with the number of threads that torch was told to use.
#pragma once
#include <ATen/Parallel.h>
#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace mmc {

// Threads worth starting for n items of which one thread should do at least `grain`.
inline int thread_count(int64_t n, int64_t grain) {
  if (omp_in_parallel()) return 1;
  const int64_t useful = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
  return static_cast<int>(std::min<int64_t>(at::get_num_threads(), useful));
}

// f(begin, end) on one contiguous range per thread. Ranges begin at multiples of `align`, so
// that blocks of lanes never straddle two threads and results do not depend on their number.
template <typename F>
void parallel_ranges(int64_t n, int64_t grain, int64_t align, const F& f) {
  if (n <= 0) return;
  const int threads = thread_count(n, grain);
  if (threads == 1) {
    f(int64_t(0), n);
    return;
  }
  const int64_t blocks = (n + align - 1) / align;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    const int64_t begin = blocks * t / threads * align;
    const int64_t end = std::min(n, blocks * (t + 1) / threads * align);
    if (begin < end) f(begin, end);
  }
}

}  // namespace mmc
