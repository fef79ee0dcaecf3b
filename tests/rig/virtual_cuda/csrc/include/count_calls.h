// Counts calls of CUDA operators: comes before bindings, whose m.impl(name, &function) it replaces.
#pragma once
#include <torch/library.h>

#include <utility>

#include "bind_cuda_common.h"

extern "C" void cuemu_called(const char* name);

template <auto F>
struct Counted;
template <typename R, typename... A, R (*F)(A...)>
struct Counted<F> {
  static inline const char* name = nullptr;
  static R call(A... args) {
    cuemu_called(name);
    return F(std::forward<A>(args)...);
  }
};
#define impl(key, f) impl(key, (Counted<f>::name = key, &Counted<f>::call))
