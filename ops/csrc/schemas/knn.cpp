#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  m.def("knn_mean_dist2(Tensor points, int k) -> Tensor");
}
