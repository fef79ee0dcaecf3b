#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // points [P, 3], means [N, 3], precis [N, 3, 3], amps [N] (weight of a Gaussian in the sums),
  // semantics [N, C], radii int32 [N] in cells. Probabilistic: logits are sums divided by `mass`
  // (uniform over the first C - 1 classes where it is too small), complement = prod(1 - e) and
  // density = sum e; otherwise these three are empty.
  m.def("semantic_splat_fwd(Tensor points, Tensor means, Tensor precis, Tensor amps,"
        " Tensor semantics, Tensor radii, float[] vol_range, float[] voxel_size,"
        " int[] grid_shape, bool probabilistic)"
        " -> (Tensor logits, Tensor complement, Tensor density, Tensor mass)");
  m.def("semantic_splat_bwd(Tensor v_logits, Tensor v_complement, Tensor v_density,"
        " Tensor points, Tensor means, Tensor precis, Tensor amps, Tensor semantics,"
        " Tensor radii, Tensor logits, Tensor complement, Tensor mass, float[] vol_range,"
        " float[] voxel_size, int[] grid_shape, bool probabilistic)"
        " -> (Tensor v_means, Tensor v_precis, Tensor v_amps, Tensor v_semantics)");
}
