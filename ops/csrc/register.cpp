// Opens the namespace of the native operators. Each family declares its own in
// schemas/<family>.cpp; backends register kernels with TORCH_LIBRARY_IMPL.
#include <torch/library.h>

TORCH_LIBRARY(mmcity, m) {
  m.def("build_info() -> str");
  m.def("raise_refused_ids(Tensor like) -> ()");
}

static std::string build_info() { return __VERSION__; }
TORCH_LIBRARY_IMPL(mmcity, CompositeExplicitAutograd, m) { m.impl("build_info", &build_info); }
