// Tile kernels for AVX2, chosen at run time (rasterize.cpp). Headers of the library and of the
// language are included before the target region: their inline code stays portable.
#if defined(__x86_64__) && !defined(MMC_BASELINE_ONLY)
#define MMC_ISA_NS isa_avx2
#define MMC_ISA_AVX2
#include <immintrin.h>
#include "cpu/rasterize_kernels.h"
#include "math/hd.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,lzcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,lzcnt")
#endif
#include "cpu/rasterize_table.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace mmc {
const RasterKernels<float>& raster_kernels_avx2() { return isa_avx2::kernel_table<float>(); }
}  // namespace mmc
#endif
