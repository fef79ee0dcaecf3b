// Fibers, scheduling, rendezvous and launches. See cuemu.h.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cuemu.h"

#if !defined(__x86_64__)
#error "the switch of fibers is written for x86-64"
#endif
// void cuemu_switch(void** save, void* load): keeps the callee-saved registers on the stack.
asm(R"(
.text
.globl cuemu_switch
.type cuemu_switch, @function
cuemu_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size cuemu_switch, .-cuemu_switch
.section .note.GNU-stack,"",@progbits
.text
)");
extern "C" void cuemu_switch(void** save, void* load);

namespace cuemu {

Lane* self = nullptr;
dim3 block_index, block_size, grid_size;
uint64_t launch_serial = 0;
uintptr_t host_frame = 0;

namespace {

struct Random {  // splitmix64
  uint64_t state;
  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  unsigned below(size_t n) { return static_cast<unsigned>(next() % n); }
};

struct Call {
  const char *kernel = "", *file = "";
  int line = 0;
  void (*thread)(void*) = nullptr;
  void* context = nullptr;
} call;

const char* seed_text = std::getenv("VIRTUAL_CUDA_SEED");
uint64_t seed = seed_text ? std::strtoull(seed_text, nullptr, 0) : 0;
Random random_{0};
cudaError_t last_error = cudaSuccess;
std::recursive_mutex mutex;
std::vector<Lane> lanes;
std::vector<unsigned> ready, alive_mask, waiting_mask;  // masks: per warp
size_t head = 0;  // of `ready`, when it is a queue
unsigned alive = 0, at_barrier = 0, n_threads = 0;
int policy = 0;  // 0 in order of arrival, 1 the last to arrive first, 2 any
void* scheduler_sp = nullptr;
std::string error;
std::vector<Region> regions;
std::vector<char> dynamic_memory;
std::map<std::string, uint64_t> counts;  // of launches by "file kernel", of calls by operator

const char* name_of(Op op) {
  static const char* names[] = {"__syncthreads", "__syncthreads_and", "__syncthreads_or",
                                "__syncthreads_count", "__syncwarp", "__ballot_sync", "__any_sync",
                                "__all_sync", "__shfl_sync", "__shfl_xor_sync", "__shfl_up_sync",
                                "__shfl_down_sync"};
  return names[static_cast<int>(op)];
}
std::string where(const Lane& l) {
  return std::string(name_of(l.op)) + " (" + l.file + ":" + std::to_string(l.line) + ")";
}
std::string hex(uint64_t x) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(x));
  return text;
}
std::string prefix() {
  char text[256];
  std::snprintf(text, sizeof text, "cuemu: kernel %s (launched at %s:%d), block (%u, %u, %u): ",
                call.kernel, call.file, call.line, block_index.x, block_index.y, block_index.z);
  return text;
}

void make_ready(Lane& l) {
  l.state = State::ready;
  ready.push_back(l.number);
}
void leave() { cuemu_switch(&self->sp, scheduler_sp); }

void finish_block_op() {
  if (at_barrier == 0 || at_barrier < alive) return;
  uint64_t count = 0, first = ~0ull;
  for (const Lane& l : lanes) {
    if (l.state != State::in_block_op) continue;
    if (first == ~0ull) first = l.number;
    const Lane& f = lanes[first];
    if (l.op != f.op || l.line != f.line || std::strcmp(l.file, f.file))
      fail("barrier reached at different places: thread " + std::to_string(f.number) + " in " +
           where(f) + ", thread " + std::to_string(l.number) + " in " + where(l));
    count += l.value;
  }
  for (Lane& l : lanes) {
    if (l.state != State::in_block_op) continue;
    l.result = l.op == Op::syncthreads_and  ? count == at_barrier
               : l.op == Op::syncthreads_or ? count > 0
                                            : count;
    ++l.block_epoch;
    make_ready(l);
  }
  at_barrier = 0;
}

void shuffle(Lane* warp, Lane& l) {
  const int width = static_cast<int>(l.width), lane = static_cast<int>(l.number % 32);
  const int base = lane / width * width;
  int from = lane;
  if (l.op == Op::shfl) from = base + (l.arg & (width - 1));
  if (l.op == Op::shfl_xor) from = lane ^ l.arg;
  if (l.op == Op::shfl_up) from = lane - l.arg < base ? lane : lane - l.arg;
  if (l.op == Op::shfl_down) from = lane + l.arg >= base + width ? lane : lane + l.arg;
  const unsigned there = waiting_mask[l.number / 32] & l.mask;
  if (from >= 32 || !(there >> from & 1))
    fail(where(l) + ": lane " + std::to_string(lane) + " reads lane " + std::to_string(from) +
         ", which does not take part");
  l.result = warp[from].value;
}

// Completes the operation that lane `l` waits in, when all lanes it names have come or ended.
void finish_warp_op(Lane& l) {
  const unsigned w = l.number / 32, needed = l.mask & alive_mask[w];
  if ((waiting_mask[w] & needed) != needed) return;
  Lane* warp = &lanes[w * 32];
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if (!(needed >> i & 1)) continue;
    if (warp[i].mask != l.mask) return;  // it waits for others first
    if (warp[i].op != l.op || warp[i].line != l.line || std::strcmp(warp[i].file, l.file))
      fail("lanes of one warp meet at different places: thread " + std::to_string(l.number) +
           " in " + where(l) + ", thread " + std::to_string(warp[i].number) + " in " +
           where(warp[i]));
    if (warp[i].value & 1) votes |= 1u << i;
  }
  for (unsigned i = 0; i < 32; ++i) {
    if (!(needed >> i & 1)) continue;
    Lane& o = warp[i];
    if (o.op == Op::ballot) o.result = votes;
    if (o.op == Op::any) o.result = votes != 0;
    if (o.op == Op::all) o.result = votes == needed;
    if (o.op >= Op::shfl) shuffle(warp, o);
    if (o.op == Op::syncwarp) ++o.warp_epoch;  // the others order no memory
  }
  waiting_mask[w] &= ~needed;
  for (unsigned i = 0; i < 32; ++i)
    if (needed >> i & 1) make_ready(warp[i]);
}

void thread_main() {
  call.thread(call.context);
  Lane& l = *self;
  const unsigned w = l.number / 32;
  l.state = State::done;
  --alive;
  alive_mask[w] &= ~(1u << l.number % 32);
  finish_block_op();
  for (unsigned i = w * 32; i < std::min(n_threads, w * 32 + 32); ++i)
    if (lanes[i].state == State::in_warp_op) finish_warp_op(lanes[i]);
  leave();
  std::abort();
}

void prepare(unsigned n) {
  const size_t before = lanes.size();
  if (n > before) {
    lanes.resize(n);
    for (size_t i = before; i < n; ++i) {
      void* p = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) throw std::runtime_error("cuemu: no memory for stacks");
      mprotect(p, 4096, PROT_NONE);  // an overflow faults
      lanes[i].stack = static_cast<char*>(p);
    }
  }
  for (size_t i = n; i < lanes.size(); ++i) lanes[i].state = State::done;
}

void start(Lane& l, unsigned number) {
  l.number = number;
  l.index = dim3(number % block_size.x, number / block_size.x % block_size.y,
                 number / (block_size.x * block_size.y));
  l.block_epoch = l.warp_epoch = 0;
  void** top = reinterpret_cast<void**>(l.stack + kStack);
  *--top = nullptr;  // keeps the stack aligned as after a call
  *--top = reinterpret_cast<void*>(&thread_main);
  for (int k = 0; k < 6; ++k) *--top = nullptr;
  l.sp = top;
  make_ready(l);
}

unsigned pick() {
  if (policy == 0) return ready[head++];
  const size_t i = policy == 1 ? ready.size() - 1 : random_.below(ready.size());
  const unsigned number = ready[i];
  ready[i] = ready.back();
  ready.pop_back();
  return number;
}

void report_deadlock() {
  std::string text = "threads wait for ever:";
  std::map<std::string, std::string> groups;
  for (unsigned i = 0; i < n_threads; ++i) {
    const Lane& l = lanes[i];
    if (l.state == State::done) continue;
    std::string key = where(l);
    if (l.state == State::in_warp_op) key += " mask " + hex(l.mask);
    std::string& list = groups[key];
    if (list.size() < 80) list += " " + std::to_string(i);
  }
  for (const auto& [key, list] : groups) text += "\n  in " + key + ": threads" + list;
  error = prefix() + text;
}

void run_block() {
  ready.clear();
  head = 0;
  regions.clear();
  untrack_shared();
  alive = n_threads;
  at_barrier = 0;
  const unsigned warps = (n_threads + 31) / 32;
  alive_mask.assign(warps, ~0u);
  if (n_threads % 32) alive_mask.back() = (1u << n_threads % 32) - 1;
  waiting_mask.assign(warps, 0);
  policy = seed == 0 ? 0 : static_cast<int>(random_.below(3));
  std::memset(dynamic_memory.data(), 0xff, dynamic_memory.size());
  if (!dynamic_memory.empty()) shared(dynamic_memory.data(), dynamic_memory.size(), "dynamic");
  for (unsigned i = 0; i < n_threads; ++i) start(lanes[i], i);
  if (seed)
    for (unsigned i = n_threads - 1; i > 0; --i) std::swap(ready[i], ready[random_.below(i + 1)]);
  while (head < ready.size() && error.empty()) {
    self = &lanes[pick()];
    cuemu_switch(&scheduler_sp, self->sp);
    self = nullptr;
    if (policy == 0 && head > 4096) {
      ready.erase(ready.begin(), ready.begin() + head);
      head = 0;
    }
  }
  if (error.empty() && alive) report_deadlock();
}

}  // namespace

void fail(const std::string& what) {
  Lane* l = std::exchange(self, nullptr);  // the checker is silent from here on
  if (!l) throw std::runtime_error("cuemu: " + what);
  if (error.empty()) error = prefix() + "thread " + std::to_string(l->number) + ": " + what;
  cuemu_switch(&l->sp, scheduler_sp);
  std::abort();
}

uint64_t block_op(Op op, bool predicate, const char* file, int line) {
  Lane& l = *self;
  l.op = op;
  l.value = predicate;
  l.file = file;
  l.line = line;
  l.state = State::in_block_op;
  ++at_barrier;
  finish_block_op();
  leave();
  return l.result;
}

uint64_t warp_op(Op op, unsigned mask, uint64_t value, int arg, unsigned width, const char* file,
                 int line) {
  Lane& l = *self;
  l.op = op;
  l.mask = mask;
  l.value = value;
  l.arg = arg;
  l.width = width;
  l.file = file;
  l.line = line;
  if (!(mask >> l.number % 32 & 1)) fail(where(l) + ": the mask does not name the calling lane");
  l.state = State::in_warp_op;
  waiting_mask[l.number / 32] |= 1u << l.number % 32;
  finish_warp_op(l);
  leave();
  return l.result;
}

void shared(void* p, size_t bytes, const char* name) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(p);
  size_t total = bytes;
  for (const Region& r : regions) {
    if (r.begin == at) return;
    total += r.bytes;
  }
  if (total > kMaxShared) fail("more than 48 KiB of shared memory");
  regions.push_back({at, bytes, name});
  std::memset(p, 0xff, bytes);  // NaN, and indices that lead nowhere
  track_shared(regions.back());
}
void* dynamic_shared() { return dynamic_memory.data(); }
const Region* find_shared(uintptr_t at) {
  for (const Region& r : regions)
    if (at - r.begin < r.bytes) return &r;
  return nullptr;
}
const char* kernel_name() { return call.kernel; }
uint64_t linear_block() {
  return (uint64_t(block_index.z) * grid_size.y + block_index.y) * grid_size.x + block_index.x;
}

void run(const char* kernel, const char* file, int line, dim3 grid, dim3 block, size_t smem,
         void (*thread)(void*), void* context) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || smem > kMaxShared) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  call = {kernel, file, line, thread, context};
  ++counts[std::string(file) + " " + kernel];
  ++launch_serial;
  host_frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  random_.state = seed * 0x2545f4914f6cdd1du + launch_serial;
  error.clear();
  block_size = block;
  grid_size = grid;
  n_threads = static_cast<unsigned>(threads);
  prepare(n_threads);
  dynamic_memory.assign(smem, 0);
  // Blocks in a random cyclic order with a random stride.
  uint64_t first = 0, stride = 1;
  if (seed && blocks > 1) {
    first = random_.next() % blocks;
    const auto gcd = [](uint64_t a, uint64_t b) {
      while (b) std::swap(a %= b, b);
      return a;
    };
    do stride = 1 + random_.next() % (blocks - 1);
    while (gcd(blocks, stride) != 1);
  }
  for (uint64_t k = 0; k < blocks && error.empty(); ++k) {
    const uint64_t b = (first + k * stride) % blocks;
    block_index = dim3(b % grid.x, b / grid.x % grid.y, b / (uint64_t(grid.x) * grid.y));
    run_block();
  }
  std::string reports = take_reports();
  if (!error.empty()) reports = error + (reports.empty() ? "" : "\n" + reports);
  if (!reports.empty()) throw std::runtime_error(reports);
}

void* device_malloc(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, bytes ? bytes : 1)) throw std::bad_alloc();
  std::memset(p, 0xff, bytes);  // what nobody wrote is NaN
  track(p, bytes);
  return p;
}
void device_free(void* p) {
  untrack(p);
  std::free(p);
}

}  // namespace cuemu

cudaError_t cudaGetLastError() { return std::exchange(cuemu::last_error, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess ? "no error" : "invalid configuration argument";
}
extern "C" void cuemu_set_seed(uint64_t seed) { cuemu::seed = seed; }
extern "C" void cuemu_called(const char* name) {
  const std::lock_guard<std::recursive_mutex> lock(cuemu::mutex);
  ++cuemu::counts[name];
}
// "name\tcount" lines of all launches and calls so far
extern "C" const char* cuemu_counts() {
  static std::string text;
  const std::lock_guard<std::recursive_mutex> lock(cuemu::mutex);
  text.clear();
  for (const auto& [name, n] : cuemu::counts) text += name + "\t" + std::to_string(n) + "\n";
  return text.c_str();
}
