// A CUDA device made of host memory: devices, streams, events, allocator, generators and the hooks
// through which torch's CPU library asks for them.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>

#include <torch/csrc/distributed/c10d/reducer_timer.hpp>

#include "virtual_cuda.h"

namespace virtual_cuda {
namespace {

constexpr int kMaxDevices = 8;
thread_local DeviceIndex current = 0;
thread_local std::array<c10::StreamId, kMaxDevices> streams{};
std::atomic<c10::StreamId> last_stream{0};
std::atomic<bool> used{false}, forked{false};
bool hand_out_default = false;  // python's way to the default generators

int64_t env(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : otherwise;
}

void check_index(DeviceIndex index) {
  TORCH_CHECK(index >= 0 && index < device_count(), "CUDA error: invalid device ordinal ", int(index));
}

// ------------------------------------------------------------------ memory
struct Usage {
  std::atomic<int64_t> current{0}, peak{0}, allocations{0}, total{0};
};
std::array<Usage, kMaxDevices> usage;

struct Block {
  c10::Storage owner;
  int64_t bytes;
  DeviceIndex index;
};
std::mutex live_mutex;
std::unordered_multimap<void*, Block*> live;  // by address: a resize may keep it
void (*on_allocate)(void*, size_t) = nullptr;  // an emulator of kernels wants to know
void (*on_free)(void*) = nullptr;

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  {
    std::lock_guard<std::mutex> lock(live_mutex);
    void* data = block->owner.mutable_data();
    auto [at, end] = live.equal_range(data);
    while (at != end && at->second != block) ++at;
    if (at != end) live.erase(at);
    const auto other = live.find(data);
    if (on_free && data) on_free(data);
    if (on_allocate && data && other != live.end()) on_allocate(data, other->second->owner.nbytes());
  }
  usage[block->index].current -= block->bytes;
  delete block;
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override { return device_allocate(bytes, current_device()); }
  void copy_data(void* to, const void* from, size_t n) const override {
    default_copy_data(to, from, n);
  }
} device_memory;
c10::AllocatorRegisterer<DeviceType::CUDA> registered(&device_memory);

// Pinned memory: an allocation of the CPU whose address range is remembered.
std::mutex pinned_mutex;
std::map<const char*, size_t> pinned;
struct PinnedAllocator final : at::HostAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    char* data = static_cast<char*>(std::aligned_alloc(64, (bytes / 64 + 1) * 64));
    std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned[data] = bytes;
    return {data, data, &free, Device(DeviceType::CPU)};
  }
  static void free(void* data) {
    std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned.erase(static_cast<char*>(data));
    std::free(data);
  }
  static bool contains(const void* data) {
    std::lock_guard<std::mutex> lock(pinned_mutex);
    auto next = pinned.upper_bound(static_cast<const char*>(data));
    if (next == pinned.begin()) return false;
    --next;
    return static_cast<const char*>(data) <= next->first + next->second;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, size_t n) const override {
    default_copy_data(to, from, n);
  }
  bool record_event(void*, void*, c10::Stream) override { return true; }
  void empty_cache() override {}
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
} pinned_memory;
at::HostAllocatorRegistry<DeviceType::CUDA> pinned_registered(&pinned_memory);

// ------------------------------------------------------------------ random numbers
// Its own sequence, drawn by a generator of the CPU: numbers differ from those of a GPU.
struct Numbers final : c10::GeneratorImpl {
  explicit Numbers(DeviceIndex index)
      : GeneratorImpl(Device(DeviceType::CUDA, index), c10::DispatchKeySet(c10::DispatchKey::CUDA)) {}
  void set_current_seed(uint64_t seed) override { cpu.set_current_seed(seed); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return cpu.current_seed(); }
  uint64_t seed() override { return cpu.seed(); }
  void set_state(const c10::TensorImpl& s) override { cpu.unsafeGetGeneratorImpl()->set_state(s); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return cpu.unsafeGetGeneratorImpl()->get_state();
  }
  GeneratorImpl* clone_impl() const override {
    auto* copy = new Numbers(device().index());
    copy->cpu = cpu.clone();
    return copy;
  }
  at::Generator cpu = at::detail::createCPUGenerator();
};

// ------------------------------------------------------------------ devices, streams, events
double now_ms() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device d) const override {
    const Device old = cuda(current);
    setDevice(d);
    return old;
  }
  Device getDevice() const override { return cuda(current); }
  void setDevice(Device d) const override {
    if (!d.has_index()) return;
    check_index(d.index());
    current = d.index();
  }
  void uncheckedSetDevice(Device d) const noexcept override { current = d.index(); }
  c10::Stream getStream(Device d) const override {
    d = cuda(d.index());
    return c10::Stream(c10::Stream::UNSAFE, d, streams[d.index()]);
  }
  c10::Stream getDefaultStream(Device d) const override {
    return c10::Stream(c10::Stream::DEFAULT, cuda(d.index()));
  }
  c10::Stream getNewStream(Device d, int) const override {
    return c10::Stream(c10::Stream::UNSAFE, cuda(d.index()), ++last_stream);
  }
  c10::Stream getStreamFromGlobalPool(Device d, bool) const override { return getNewStream(d, 0); }
  c10::Stream exchangeStream(c10::Stream s) const override {
    const c10::Stream old = getStream(s.device());
    streams[s.device_index()] = s.id();
    return old;
  }
  void* getStreamNativeHandle(const c10::Stream) const override { return nullptr; }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }
  void record(void** event, const c10::Stream&, DeviceIndex, c10::EventFlag) const override {
    if (!*event) *event = new double;
    *static_cast<double*>(*event) = now_ms();
  }
  void destroyEvent(void* event, DeviceIndex) const noexcept override {
    delete static_cast<double*>(event);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { would_wait("stream.synchronize"); }
  void synchronizeEvent(void*) const override { would_wait("event.synchronize"); }
  void synchronizeDevice(DeviceIndex) const override { would_wait("synchronize"); }
  double elapsedTime(void* from, void* to, DeviceIndex) const override {
    return *static_cast<double*>(to) - *static_cast<double*>(from);
  }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

// ------------------------------------------------------------------ what the CPU library asks
struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return device_count() > 0; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return used; }
  DeviceIndex deviceCount() const override { return device_count(); }
  int getNumGPUs() const override { return device_count(); }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  DeviceIndex exchangeDevice(DeviceIndex d) const override {
    const DeviceIndex old = current;
    if (d >= 0) setCurrentDevice(d);
    return old;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex d) const override { return exchangeDevice(d); }
  void setCurrentDevice(DeviceIndex d) const override {
    check_index(d);
    current = d;
  }
  std::string showConfig() const override { return "  - Virtual CUDA\n"; }
  long versionCUDART() const override { return 13000; }
  int64_t cuFFTGetPlanCacheMaxSize(DeviceIndex) const override { return 4096; }
  void cuFFTSetPlanCacheMaxSize(DeviceIndex, int64_t) const override {}
  int64_t cuFFTGetPlanCacheSize(DeviceIndex) const override { return 0; }
  void cuFFTClearPlanCache(DeviceIndex) const override {}
  void deviceSynchronize(DeviceIndex) const override { would_wait("synchronize"); }
  Device getDeviceFromPtr(void*) const override { return cuda(current); }
  bool isPinnedPtr(const void* data) const override { return PinnedAllocator::contains(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  c10::Allocator* getCUDADeviceAllocator() const override { return &device_memory; }
  const at::Generator& getDefaultGenerator(DeviceIndex d) const override {
    return default_generator(d);
  }
  at::Generator getNewGenerator(DeviceIndex d) const override {
    return hand_out_default ? default_generator(d) : at::make_generator<Numbers>(cuda(d).index());
  }
};
using at::CUDAHooksArgs;
using at::CUDAHooksInterface;
using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
REGISTER_CUDA_HOOKS(CUDAHooks)

// DistributedDataParallel measures its phases.
struct ReducerTimer final : c10d::Timer {
  explicit ReducerTimer(Device) {}
  std::optional<int64_t> measureDifference(Event start, Event end) override {
    return getTimeRef(end) - getTimeRef(start);
  }
};

// ------------------------------------------------------------------ host synchronisations
std::atomic<int> mode{0};  // 0 counts, 2 raises
std::atomic<int64_t> waits{0};
std::atomic<void (*)(const char*, int)> listener{nullptr};
std::mutex copies_mutex;
std::vector<std::pair<at::Tensor, at::Tensor>> copies;

}  // namespace

DeviceIndex device_count() {
  static const auto count =
      static_cast<DeviceIndex>(std::min<int64_t>(kMaxDevices, env("VIRTUAL_CUDA_DEVICES", 1)));
  return count;
}
DeviceIndex current_device() { return current; }
c10::Allocator* allocator() { return &device_memory; }

void check_fork() {
  if (!used.exchange(true)) pthread_atfork(nullptr, nullptr, [] { forked = true; });
  TORCH_CHECK(!forked, "Cannot re-initialize CUDA in forked subprocess. To use CUDA with "
                       "multiprocessing, you must use the 'spawn' start method");
}

c10::DataPtr device_pointer(c10::Storage owner, DeviceIndex index) {
  check_fork();
  check_index(index);
  static const int64_t limit = env("VIRTUAL_CUDA_MEMORY", int64_t(64) << 30);
  const int64_t bytes = (static_cast<int64_t>(owner.nbytes()) + 511) / 512 * 512;
  Usage& u = usage[index];
  TORCH_CHECK_WITH(OutOfMemoryError, u.current + bytes <= limit, "CUDA out of memory. Tried to allocate ",
                   bytes >> 20, " MiB. GPU ", int(index), " has a total capacity of ", limit >> 20,
                   " MiB of which ", u.current >> 20, " MiB are in use.");
  const int64_t now = u.current += bytes;
  int64_t peak = u.peak;
  while (now > peak && !u.peak.compare_exchange_weak(peak, now)) {}
  ++u.allocations;
  u.total += bytes;
  void* data = owner.mutable_data();
  auto* block = new Block{std::move(owner), bytes, index};
  std::lock_guard<std::mutex> lock(live_mutex);
  live.emplace(data, block);
  if (on_allocate && data) on_allocate(data, block->owner.nbytes());
  return {data, block, &release, cuda(index)};
}
c10::DataPtr device_allocate(size_t bytes, DeviceIndex index) {
  static const bool poison = env("VIRTUAL_CUDA_POISON", 0);  // what nobody wrote is NaN
  auto* cpu = c10::GetCPUAllocator();
  c10::DataPtr data = cpu->allocate(bytes);
  if (poison && bytes) std::memset(data.get(), 0xff, bytes);
  return device_pointer(
      c10::Storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), cpu, true), index);
}
const c10::Storage* owner_of(const c10::Storage& storage) {
  auto* block = storage.data_ptr().cast_context<Block>(&release);
  return block ? &block->owner : nullptr;
}

at::Generator& default_generator(DeviceIndex index) {
  static std::array<at::Generator, kMaxDevices> generators = [] {
    std::array<at::Generator, kMaxDevices> made;
    for (int i = 0; i < kMaxDevices; ++i) made[i] = at::make_generator<Numbers>(i);
    return made;
  }();
  return generators.at(cuda(index).index());
}
at::Generator& cpu_generator(const at::Generator& generator) {
  return generator.get<Numbers>()->cpu;
}

void note(const std::string& what) {
  if (auto* tell = listener.load()) tell(what.c_str(), 0);
}
void would_wait(const std::string& what) {
  ++waits;
  wait_for_copies();
  if (auto* tell = listener.load()) tell(what.c_str(), 1);
  TORCH_CHECK(mode != 2, "called a synchronizing CUDA operation (", what, ")");
}
void wait_for_copies() {
  std::vector<std::pair<at::Tensor, at::Tensor>> done;
  {
    std::lock_guard<std::mutex> lock(copies_mutex);
    done.swap(copies);
  }
  for (auto& [to, from] : done) to.copy_(from);
}
void add_waiting_copy(at::Tensor to, at::Tensor from) {
  std::lock_guard<std::mutex> lock(copies_mutex);
  copies.emplace_back(std::move(to), std::move(from));
}

}  // namespace virtual_cuda

namespace c10d {
using virtual_cuda::ReducerTimer;
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, ReducerTimer)
}  // namespace c10d

// ------------------------------------------------------------------ for ctypes
extern "C" {
int vc_device_count() { return virtual_cuda::device_count(); }
int vc_current_device() { return virtual_cuda::current_device(); }
void vc_set_device(int index) { virtual_cuda::Guard().uncheckedSetDevice({c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)}); }
void vc_memory(int index, int64_t* out) {
  auto& u = virtual_cuda::usage[index];
  out[0] = u.current, out[1] = u.peak, out[2] = u.allocations, out[3] = u.total;
}
void vc_reset_peak(int index) {
  virtual_cuda::usage[index].peak = virtual_cuda::usage[index].current.load();
}
void vc_set_memory_hooks(void (*allocate)(void*, size_t), void (*free)(void*)) {
  std::lock_guard<std::mutex> lock(virtual_cuda::live_mutex);
  virtual_cuda::on_allocate = allocate, virtual_cuda::on_free = free;
  for (auto& [data, block] : virtual_cuda::live)
    if (allocate && data) allocate(data, block->owner.nbytes());
}
void vc_set_mode(int mode) { virtual_cuda::mode = mode; }
int64_t vc_waits() { return virtual_cuda::waits; }
void vc_set_listener(void (*listener)(const char*, int)) { virtual_cuda::listener = listener; }
void vc_synchronize(const char* what) {
  ++virtual_cuda::waits;
  virtual_cuda::wait_for_copies();
  if (auto* tell = virtual_cuda::listener.load()) tell(what, 1);
}
void vc_hand_out_default_generators(int on) { virtual_cuda::hand_out_default = on; }
void vc_resize_storage(void* impl, size_t bytes) {  // what FullyShardedDataParallel frees and makes
  auto* storage = static_cast<c10::StorageImpl*>(impl);
  c10::DataPtr data = virtual_cuda::device_allocate(bytes, storage->device().index());
  if (const size_t kept = std::min(bytes, storage->nbytes())) std::memcpy(data.get(), storage->data(), kept);
  storage->set_data_ptr_noswap(std::move(data));
  storage->set_nbytes(bytes);
}
int vc_forked() { return virtual_cuda::forked; }
}
