// Schemas of every native operator. Implementations register themselves for
// their backend (cpu/*.cpp, bind_cuda.cpp) with TORCH_LIBRARY_IMPL.
#include <torch/library.h>

TORCH_LIBRARY(mmcity, m) {
  m.def("build_info() -> str");
}

static std::string build_info() { return __VERSION__; }
TORCH_LIBRARY_IMPL(mmcity, CompositeExplicitAutograd, m) { m.impl("build_info", &build_info); }
