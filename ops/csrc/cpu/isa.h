// Runtime choice of the instruction set for hot loops, without -march flags.
//
// A kernel is a struct with a `static MMC_HD void run(...)` (always inlined). dispatch<Kernel>()
// instantiates it three times, for the baseline, AVX2 + FMA and AVX-512, and calls the best one
// that this processor has. Only code inlined into `run` is widened; a function that the compiler
// leaves out of line stays baseline code, which every processor executes.
#pragma once
#include <cstdlib>
#include <cstring>

#include "math/hd.h"

namespace mmc {

// MMC_BASELINE_ONLY leaves the wider variants out: a quick build for sanitizers.
#if defined(__x86_64__) && !defined(MMC_BASELINE_ONLY)
#define MMC_WIDE_ISA
#define MMC_TARGET_AVX2 __attribute__((target("avx2,fma,bmi,bmi2,f16c")))
#define MMC_TARGET_AVX512 \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,bmi,bmi2,f16c," \
                        "prefer-vector-width=512")))
#else
#define MMC_TARGET_AVX2
#define MMC_TARGET_AVX512
#endif

enum class Isa { baseline, avx2, avx512 };

// Best instruction set of this machine; MMCITY_OPS_ISA=baseline|avx2 lowers it (for tests).
inline Isa isa() {
  static const Isa found = [] {
#if defined(MMC_WIDE_ISA)
    const char* wish = std::getenv("MMCITY_OPS_ISA");
    const bool base = wish && !std::strcmp(wish, "baseline");
    const bool two = base || (wish && !std::strcmp(wish, "avx2"));
    __builtin_cpu_init();
    if (!two && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
      return Isa::avx512;
    if (!base && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      return Isa::avx2;
#endif
    return Isa::baseline;
  }();
  return found;
}

// Kept from interprocedural passes: clones with arguments taken apart do not vectorize.
#if defined(__clang__)
#define MMC_ALONE __attribute__((noinline))
#else
#define MMC_ALONE __attribute__((noipa))
#endif

template <typename Kernel, typename... Args>
MMC_ALONE MMC_TARGET_AVX512 void run_avx512(Args... args) {
  Kernel::run(args...);
}
template <typename Kernel, typename... Args>
MMC_ALONE MMC_TARGET_AVX2 void run_avx2(Args... args) {
  Kernel::run(args...);
}
template <typename Kernel, typename... Args>
MMC_ALONE void run_baseline(Args... args) {
  Kernel::run(args...);
}

// Arguments are passed by value: pointers, numbers and small structs of those.
template <typename Kernel, typename... Args>
void dispatch(Args... args) {
#if defined(MMC_WIDE_ISA)
  switch (isa()) {
    case Isa::avx512: run_avx512<Kernel, Args...>(args...); return;
    case Isa::avx2: run_avx2<Kernel, Args...>(args...); return;
    default: break;
  }
#endif
  run_baseline<Kernel, Args...>(args...);
}

}  // namespace mmc
