// Gaussians to voxels on CUDA. Both directions give the same bits in every run.
#include "bind_cuda_bricks.h"

namespace mmc {
namespace cuda_voxelize_gaussians {

std::tuple<Tensor, Tensor> voxels_fwd(const Tensor& means, const Tensor& covars,
                                      const Tensor& opacities, const Tensor& features,
                                      at::ArrayRef<double> range, at::ArrayRef<double> size,
                                      at::IntArrayRef shape, double extent, double eps,
                                      bool normalize) {
  const Call call("gaussians_to_voxels_fwd", means);
  const Tensor m = means.contiguous(), s = covars.contiguous(), o = opacities.contiguous();
  const Tensor f = features.contiguous();
  check_float32(call, {&m, &s, &o, &f});
  const int64_t batch = m.size(0), n = m.size(1), channels = f.size(2);
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor density = at::empty({batch, shape[0], shape[1], shape[2]}, m.options());
  const Tensor out = at::empty({batch, shape[0], shape[1], shape[2], channels}, m.options());
  const BrickTensors lists = list_bricks(
      call, m, batch * n, n, batch, grid, kVoxelBrick, true, [&](void* gaussians, int32_t* counts) {
        return launch_box_gaussians(from(m), from(s), from(o), batch * n, grid,
                                    static_cast<float>(extent), kVoxelBrick, gaussians, counts,
                                    call);
      });
  const VoxelSplat in{lists.gaussians.const_data_ptr(), from(f), from(lists.offsets),
                      from(lists.entries), grid, batch, n, channels, static_cast<float>(eps),
                      normalize};
  call(launch_voxels_fwd(in, to(density), to(out), call));
  return {density, out};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> voxels_bwd(
    const Tensor& v_density, const Tensor& v_out, const Tensor& means, const Tensor& covars,
    const Tensor& opacities, const Tensor& features, const Tensor& density, const Tensor& out,
    at::ArrayRef<double> range, at::ArrayRef<double> size, at::IntArrayRef shape, double extent,
    double eps, bool normalize) {
  const Call call("gaussians_to_voxels_bwd", means);
  const Tensor m = means.contiguous(), s = covars.contiguous(), o = opacities.contiguous();
  const Tensor f = features.contiguous(), gd = v_density.contiguous(), gf = v_out.contiguous();
  const Tensor d = density.contiguous(), of = out.contiguous();
  check_float32(call, {&m, &s, &o, &f, &gd, &gf, &d, &of});
  const int64_t batch = m.size(0), n = m.size(1), channels = f.size(2);
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor v_means = at::empty(m.sizes(), m.options());
  const Tensor v_covars = at::empty(s.sizes(), s.options());
  const Tensor v_opacities = at::empty(o.sizes(), o.options());
  const Tensor v_features = at::empty(f.sizes(), f.options());
  const BrickTensors prepared =
      list_bricks(call, m, batch * n, n, batch, grid, kVoxelBrick, false,
                  [&](void* gaussians, int32_t* counts) {
                    return launch_box_gaussians(from(m), from(s), from(o), batch * n, grid,
                                                static_cast<float>(extent), kVoxelBrick, gaussians,
                                                counts, call);
                  });
  const Tensor own = at::empty(d.sizes(), d.options());
  const VoxelSplat in{prepared.gaussians.const_data_ptr(), from(f), nullptr, nullptr, grid, batch,
                      n, channels, static_cast<float>(eps), normalize};
  const VoxelGrads io{from(gd), from(gf),    from(d),      from(of),        from(s),
                      to(own),  to(v_means), to(v_covars), to(v_opacities), to(v_features)};
  call(launch_voxels_bwd(in, io, call));
  return {v_means, v_covars, v_opacities, v_features};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("gaussians_to_voxels_fwd", &voxels_fwd);
  m.impl("gaussians_to_voxels_bwd", &voxels_bwd);
}

}  // namespace cuda_voxelize_gaussians
}  // namespace mmc
