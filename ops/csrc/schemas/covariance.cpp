#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // Full 3x3 matrices; an absent one has size 0.
  m.def("covar_preci_fwd(Tensor quats, Tensor scales, bool covar, bool preci)"
        " -> (Tensor covars, Tensor precis)");
  m.def("covar_preci_bwd(Tensor quats, Tensor scales, Tensor? v_covars, Tensor? v_precis)"
        " -> (Tensor v_quats, Tensor v_scales)");
  m.def("selective_adam_(Tensor(a!) param, Tensor grad, Tensor(b!) m, Tensor(c!) v,"
        " Tensor visible, float lr, float b1, float b2, float eps, int step) -> ()");
}
