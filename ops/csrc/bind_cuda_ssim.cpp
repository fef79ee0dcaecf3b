// Fused SSIM on CUDA.
#include "bind_cuda_common.h"
#include "cuda/ssim.h"

namespace mmc {
namespace cuda_ssim {

std::tuple<Tensor, Tensor> ssim_fwd(const Tensor& img1, const Tensor& img2, const Tensor& centers,
                                    int64_t n_partials) {
  const Call call("fused_ssim_fwd", img1);
  const Tensor x = img1.contiguous(), y = img2.contiguous(), c = centers.contiguous();
  check_float32(call, {&x, &y, &c});
  const Tensor map = at::empty(x.sizes(), x.options());
  std::vector<int64_t> shape{n_partials};
  shape.insert(shape.end(), x.sizes().begin(), x.sizes().end());
  const Tensor partials = at::empty(shape, x.options());
  call(launch_ssim_fwd(from(x), from(y), from(c), x.size(0) * x.size(1), x.size(2), x.size(3),
                       static_cast<int>(n_partials), to(map), to(partials), call));
  return {map, partials};
}

std::tuple<Tensor, Tensor> ssim_bwd(const Tensor& v_map, const Tensor& img1, const Tensor& img2,
                                    const Tensor& centers, const Tensor& partials) {
  const Call call("fused_ssim_bwd", img1);
  const Tensor x = img1.contiguous(), y = img2.contiguous(), g = v_map.contiguous();
  const Tensor c = centers.contiguous(), p = partials.contiguous();
  check_float32(call, {&x, &y, &g, &c, &p});
  const int64_t n_partials = p.size(0);
  TORCH_CHECK(n_partials == 3 || n_partials == 4,
              "fused_ssim_bwd: partials: expected 3 or 4 maps,"
              " got ",
              n_partials, "; call fused_ssim with train=True");
  const Tensor v1 = at::empty(x.sizes(), x.options());
  const Tensor v2 =
      n_partials == 4 ? at::empty(y.sizes(), y.options()) : at::empty({0}, y.options());
  call(launch_ssim_bwd(from(g), from(x), from(y), from(c), from(p), x.size(0) * x.size(1), x.size(2),
                       x.size(3), static_cast<int>(n_partials), to(v1), to(v2), call));
  return {v1, v2};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("fused_ssim_fwd", &ssim_fwd);
  m.impl("fused_ssim_bwd", &ssim_bwd);
}

}  // namespace cuda_ssim
}  // namespace mmc
