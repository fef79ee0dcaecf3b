// Gaussians to voxels on CUDA. Both directions give the same bits in every run.
#include "bind_cuda_bricks.h"

namespace mmc {
namespace cuda_voxelize_gaussians {

std::tuple<Tensor, Tensor> voxels_fwd(const Tensor& means, const Tensor& covars,
                                      const Tensor& opacities, const Tensor& features,
                                      at::ArrayRef<double> range, at::ArrayRef<double> size,
                                      at::IntArrayRef shape, double extent, double eps,
                                      bool normalize) {
  constexpr const char* op = "gaussians_to_voxels_fwd";
  const c10::DeviceGuard guard(means.device());
  const cudaStream_t stream = current_stream(means.device());
  const Tensor m = means.contiguous(), s = covars.contiguous(), o = opacities.contiguous();
  const Tensor f = features.contiguous();
  check_float32(op, {&m, &s, &o, &f});
  const int64_t batch = m.size(0), n = m.size(1), channels = f.size(2);
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor density = at::empty({batch, shape[0], shape[1], shape[2]}, m.options());
  const Tensor out = at::empty({batch, shape[0], shape[1], shape[2], channels}, m.options());
  const BrickTensors lists = list_bricks(
      op, m, batch * n, n, batch, grid, kVoxelBrick, true, stream,
      [&](void* gaussians, int32_t* counts) {
        return launch_box_gaussians(read_or_null<float>(m), read_or_null<float>(s),
                                    read_or_null<float>(o), batch * n, grid,
                                    static_cast<float>(extent), kVoxelBrick, gaussians, counts,
                                    stream);
      });
  const VoxelSplat in{lists.gaussians.const_data_ptr(), read_or_null<float>(f),
                      lists.offsets.const_data_ptr<int64_t>(), read_or_null<int32_t>(lists.entries),
                      grid, batch, n, channels, static_cast<float>(eps), normalize};
  check_launch(launch_voxels_fwd(in, write_or_null<float>(density), write_or_null<float>(out),
                                 stream),
               op);
  return {density, out};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> voxels_bwd(
    const Tensor& v_density, const Tensor& v_out, const Tensor& means, const Tensor& covars,
    const Tensor& opacities, const Tensor& features, const Tensor& density, const Tensor& out,
    at::ArrayRef<double> range, at::ArrayRef<double> size, at::IntArrayRef shape, double extent,
    double eps, bool normalize) {
  constexpr const char* op = "gaussians_to_voxels_bwd";
  const c10::DeviceGuard guard(means.device());
  const cudaStream_t stream = current_stream(means.device());
  const Tensor m = means.contiguous(), s = covars.contiguous(), o = opacities.contiguous();
  const Tensor f = features.contiguous(), gd = v_density.contiguous(), gf = v_out.contiguous();
  const Tensor d = density.contiguous(), of = out.contiguous();
  check_float32(op, {&m, &s, &o, &f, &gd, &gf, &d, &of});
  const int64_t batch = m.size(0), n = m.size(1), channels = f.size(2);
  const VoxelGrid<float> grid = voxel_grid(range, size, shape);
  const Tensor v_means = at::empty(m.sizes(), m.options());
  const Tensor v_covars = at::empty(s.sizes(), s.options());
  const Tensor v_opacities = at::empty(o.sizes(), o.options());
  const Tensor v_features = at::empty(f.sizes(), f.options());
  const BrickTensors prepared = list_bricks(
      op, m, batch * n, n, batch, grid, kVoxelBrick, false, stream,
      [&](void* gaussians, int32_t* counts) {
        return launch_box_gaussians(read_or_null<float>(m), read_or_null<float>(s),
                                    read_or_null<float>(o), batch * n, grid,
                                    static_cast<float>(extent), kVoxelBrick, gaussians, counts,
                                    stream);
      });
  const Tensor own = at::empty(d.sizes(), d.options());
  const VoxelSplat in{prepared.gaussians.const_data_ptr(), read_or_null<float>(f), nullptr, nullptr,
                      grid, batch, n, channels, static_cast<float>(eps), normalize};
  const VoxelGrads io{read_or_null<float>(gd),        read_or_null<float>(gf),
                      read_or_null<float>(d),         read_or_null<float>(of),
                      read_or_null<float>(s),         write_or_null<float>(own),
                      write_or_null<float>(v_means),  write_or_null<float>(v_covars),
                      write_or_null<float>(v_opacities), write_or_null<float>(v_features)};
  check_launch(launch_voxels_bwd(in, io, stream), op);
  return {v_means, v_covars, v_opacities, v_features};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("gaussians_to_voxels_fwd", &voxels_fwd);
  m.impl("gaussians_to_voxels_bwd", &voxels_bwd);
}

}  // namespace cuda_voxelize_gaussians
}  // namespace mmc
