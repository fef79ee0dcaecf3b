// The CUDA stream that torch runs on, with or without the CUDA headers of torch.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <cuda_runtime_api.h>
#if __has_include(<c10/cuda/impl/cuda_cmake_macros.h>)
#include <c10/cuda/CUDAStream.h>
#endif

namespace mmc {

inline cudaStream_t current_stream(const at::Device& device) {
#if __has_include(<c10/cuda/impl/cuda_cmake_macros.h>)
  return c10::cuda::getCurrentCUDAStream(device.index()).stream();
#else
  const c10::impl::VirtualGuardImpl guard(device.type());
  return reinterpret_cast<cudaStream_t>(guard.getStream(device).native_handle());
#endif
}

// Launchers return cudaGetLastError(); this turns an error into an exception that names the op.
inline void check_launch(cudaError_t status, const char* op) {
  TORCH_CHECK(status == cudaSuccess, "mmcity::", op, ": ", cudaGetErrorString(status));
}

}  // namespace mmc
