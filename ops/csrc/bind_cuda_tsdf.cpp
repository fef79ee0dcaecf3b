// TSDF fusion on CUDA. Finding the touched blocks and marching cubes run on the CPU: the first
// needs one depth map, the second happens once per mesh.
#include <ATen/core/dispatch/Dispatcher.h>

#include "bind_cuda_common.h"
#include "cuda/tsdf.h"

namespace mmc {
namespace cuda_tsdf {

void integrate(Tensor& tsdf, Tensor& weight, Tensor& color, const Tensor& blocks,
               const Tensor& depth, const OptTensor& image, const OptTensor& mask, const Tensor& K,
               const Tensor& viewmat, at::ArrayRef<double> origin, double voxel_size, double trunc,
               double frame_weight, double max_depth) {
  const Call call("tsdf_integrate_", tsdf);
  TORCH_CHECK(tsdf.is_contiguous() && weight.is_contiguous() && color.is_contiguous(),
              "tsdf_integrate_: the volume must be contiguous");
  const auto device = tsdf.device();
  const Tensor b = blocks.to(device).contiguous(), d = depth.to(device).contiguous();
  const Tensor m = mask ? mask->to(device).contiguous() : Tensor();
  const Tensor im = image ? image->to(device).contiguous() : Tensor();
  const Tensor k = K.to(device, at::kDouble).contiguous();
  const Tensor pose = viewmat.to(device, at::kDouble).contiguous();
  check_float32(call, {&tsdf, &weight, &color, &d, &im});
  TORCH_CHECK_VALUE(d.numel() < (int64_t(1) << 31), call.op, ": depth has more than 2^31 pixels");
  TORCH_CHECK_VALUE(tsdf.size(0) * tsdf.size(1) < (int64_t(1) << 31), call.op,
                    ": too many blocks for one call");
  TsdfView<float> view{};
  view.width = static_cast<int32_t>(d.size(1));
  view.height = static_cast<int32_t>(d.size(0));
  view.trunc = static_cast<float>(trunc);
  view.max_depth = static_cast<float>(max_depth);
  view.weight = static_cast<float>(frame_weight);
  view.depth = from(d);
  view.mask = reinterpret_cast<const uint8_t*>(read_or_null<bool>(m));
  float* colors = im.defined() ? write_or_null<float>(color) : nullptr;
  const TsdfVolume volume{to(tsdf), to(weight), colors, from(b), tsdf.size(0), tsdf.size(1),
                          tsdf.size(2), tsdf.size(3), {origin[0], origin[1], origin[2]},
                          voxel_size};
  call(launch_tsdf_integrate(volume, view, from(k), from(pose), from(im), call));
}

OptTensor to_cpu(const OptTensor& t) { return t ? OptTensor(t->cpu()) : OptTensor(); }

Tensor touched_blocks(const Tensor& depth, const OptTensor& mask, const Tensor& K,
                      const Tensor& viewmat, at::ArrayRef<double> origin, double voxel_size,
                      double trunc, double max_depth, int64_t block_size) {
  using Signature = Tensor(const Tensor&, const OptTensor&, const Tensor&, const Tensor&,
                           at::ArrayRef<double>, double, double, double, int64_t);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mmcity::tsdf_touched_blocks", "")
                             .typed<Signature>();
  return op
      .call(depth.cpu(), to_cpu(mask), K.cpu(), viewmat.cpu(), origin, voxel_size, trunc, max_depth,
            block_size)
      .to(depth.device());
}

std::tuple<Tensor, Tensor, Tensor> marching_cubes(const Tensor& tsdf, const Tensor& weight,
                                                  const Tensor& color, const Tensor& blocks,
                                                  const Tensor& table, at::ArrayRef<double> origin,
                                                  double voxel_size, double level,
                                                  double min_weight) {
  using Result = std::tuple<Tensor, Tensor, Tensor>;
  using Signature = Result(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                           const Tensor&, at::ArrayRef<double>, double, double, double);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mmcity::marching_cubes", "")
                             .typed<Signature>();
  const auto [vertices, faces, colors] =
      op.call(tsdf.cpu(), weight.cpu(), color.cpu(), blocks.cpu(), table.cpu(), origin, voxel_size,
              level, min_weight);
  const auto device = tsdf.device();
  return {vertices.to(device), faces.to(device), colors.to(device)};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) {
  m.impl("tsdf_integrate_", &integrate);
  m.impl("tsdf_touched_blocks", &touched_blocks);
  m.impl("marching_cubes", &marching_cubes);
}

}  // namespace cuda_tsdf
}  // namespace mmc
