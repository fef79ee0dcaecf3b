#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(mmcity, m) {
  // base [..., N, K, D] with rest absent, or base [..., N, 1, D] and rest [..., N, K - 1, D].
  // Dense rows are [..., C, N] (masks bool of that shape); packed rows come with camera_ids and
  // gaussian_ids and no leading sizes. shift: colours are max(SH + 0.5, 0).
  m.def("sh_fwd(int degree, Tensor means, Tensor viewmats, Tensor base, Tensor? rest,"
        " Tensor? masks, Tensor? camera_ids, Tensor? gaussian_ids, bool shift) -> Tensor");
  m.def("sh_bwd(int degree, Tensor means, Tensor viewmats, Tensor base, Tensor? rest,"
        " Tensor? masks, Tensor? camera_ids, Tensor? gaussian_ids, bool shift, Tensor? colors,"
        " Tensor v_colors, bool need_means, bool need_viewmats)"
        " -> (Tensor v_means, Tensor v_viewmats, Tensor v_base, Tensor v_rest)");
}
