// Reports of ids out of range: one per device, read with whatever the host waits for next.
#include <map>
#include <mutex>

#include "bind_cuda_common.h"

namespace mmc {
namespace {

constexpr const char* kIdNames[kIdArguments] = {
    "", "flatten_ids", "isect_offsets", "tile_ids", "image_ids", "camera_ids", "gaussian_ids"};

Tensor report_of(const at::Device& device) {
  static std::mutex mutex;
  static auto& reports = *new std::map<int, Tensor>;  // outlives the device's context
  const std::lock_guard<std::mutex> lock(mutex);
  Tensor& report = reports[device.index()];
  if (!report.defined()) {
    const c10::InferenceMode normal(false);
    report = at::zeros({kIdWords}, at::TensorOptions(device).dtype(at::kLong));
  }
  return report;
}

void raise_refused(const Tensor& report, const int64_t* words) {
  if (words[kIdArgument] == kNoIds) return;
  report.zero_();
  const std::string text = c10::str(
      kIdNames[words[kIdArgument]], ": expected numbers in [0, ", words[kIdLimit], "), got ",
      words[kIdValue], " at ", words[kIdPlace],
      ": kernels left it out; MMCITY_OPS_DEBUG=1 raises in the call that got it");
  // The types that the CPU's operators raise.
  const bool places = words[kIdArgument] == kIsectOffsets || words[kIdArgument] == kTileIds;
  TORCH_CHECK_VALUE(!places, text);
  TORCH_CHECK_INDEX(places, text);
}

void raise_refused_ids(const Tensor& like) {
  read_numbers(Call("raise_refused_ids", like), at::empty({0}, like.options().dtype(at::kLong)));
}

}  // namespace

int64_t* id_report(const at::Device& device) { return to(report_of(device)); }

std::vector<int64_t> read_numbers(const Call& call, const Tensor& numbers) {
  const Tensor report = report_of(numbers.device());
  const int64_t n = numbers.numel();
  const Tensor host = at::cat({numbers.reshape({-1}).to(at::kLong), report}).cpu();
  const int64_t* words = host.const_data_ptr<int64_t>();
  raise_refused(report, words + n);
  return {words, words + n};
}

TORCH_LIBRARY_IMPL(mmcity, CUDA, m) { m.impl("raise_refused_ids", &raise_refused_ids); }

}  // namespace mmc
