// Tile kernels for any processor (float32, and float64 for gradient checks).
#define MMC_ISA_NS isa_base
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#pragma GCC diagnostic ignored "-Wpsabi"  // wide vectors never cross a call
#include "cpu/rasterize_table.h"

namespace mmc {
const RasterKernels<float>& raster_kernels_base() { return isa_base::kernel_table<float>(); }
const RasterKernels<double>& raster_kernels_double() {
  return isa_base::kernel_table<double>();
}
}  // namespace mmc
