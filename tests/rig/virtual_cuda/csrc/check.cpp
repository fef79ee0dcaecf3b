// Checks every memory access of kernels: bounds, reads of shared memory that nobody wrote, and
// races. g++ -fsanitize=thread calls the __tsan_* functions below before each access; the real
// ThreadSanitizer is not linked. Built without that flag, kernels make no such calls.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "cuemu.h"

namespace cuemu {
namespace {

struct Stamp {  // an access of one thread
  uint64_t launch;
  void* pc;
  uint32_t block, block_epoch, warp_epoch;
  uint16_t thread;
  uint8_t bytes;  // which of the four
  bool atomic;
};
struct Cell {  // of four bytes: the last write, and up to two reads after it
  Stamp write, read[2];
  uint8_t written;  // of shared memory: bytes that the block has written
};
struct Memory {
  size_t bytes;
  Cell* cells;  // calloc: untouched pages cost nothing
};

std::map<uintptr_t, Memory> memories, shared_memories;
std::string reports;
std::set<std::string> reported;  // kind and places: each is told once

std::string place(void* pc) {
  Dl_info info{};
  char text[512];
  if (dladdr(pc, &info) && info.dli_fname) {
    std::snprintf(text, sizeof text, "addr2line -Cse %s %p", info.dli_fname,
                  reinterpret_cast<void*>(static_cast<char*>(pc) - 1 -
                                          static_cast<char*>(info.dli_fbase)));
    if (FILE* pipe = popen(text, "r")) {
      if (!std::fgets(text, sizeof text, pipe)) text[0] = 0;
      pclose(pipe);
      text[std::strcspn(text, "\n")] = 0;
      return text;
    }
  }
  return "?";
}

void tell(const std::string& what, void* pc, const Stamp* other) {
  const std::string key = kernel_name() + what + std::to_string(reinterpret_cast<size_t>(pc)) +
                          (other ? std::to_string(reinterpret_cast<size_t>(other->pc)) : "");
  if (!reported.insert(key).second) return;
  char text[1024];
  std::snprintf(text, sizeof text, "cuemu: kernel %s, block %llu, thread %u: %s at %s",
                kernel_name(), static_cast<unsigned long long>(linear_block()), self->number,
                what.c_str(), place(pc).c_str());
  reports += text;
  if (other) {
    std::snprintf(text, sizeof text, ", against block %u, thread %u at %s", other->block,
                  other->thread, place(other->pc).c_str());
    reports += text;
  }
  reports += "\n";
}

bool races(const Stamp& before, const Stamp& now) {
  if (before.launch != now.launch || !(before.bytes & now.bytes)) return false;
  if (before.atomic && now.atomic) return false;
  if (before.block != now.block) return true;
  if (before.thread == now.thread || before.block_epoch != now.block_epoch) return false;
  return before.thread / 32 != now.thread / 32 || before.warp_epoch == now.warp_epoch;
}

void word(Cell& c, const Stamp& now, bool write, bool is_shared, const std::string& name) {
  if (races(c.write, now))
    tell((write ? "write/write race on " : "read/write race on ") + name, now.pc, &c.write);
  if (is_shared && !write && (now.bytes & ~c.written))
    tell("read of unwritten " + name, now.pc, nullptr);
  if (write) {
    for (const Stamp& r : c.read)
      if (races(r, now)) tell("write/read race on " + name, now.pc, &r);
    c.write = now;
    c.written |= now.bytes;
    c.read[0] = c.read[1] = Stamp{};
  } else {
    Stamp as_write = now;
    as_write.bytes = c.read[0].bytes;
    const bool other = c.read[0].launch == now.launch && races(c.read[0], as_write);
    c.read[other] = now;
  }
}

Memory* find(std::map<uintptr_t, Memory>& in, uintptr_t at, uintptr_t& begin) {
  auto it = in.upper_bound(at);
  if (it == in.begin()) return nullptr;
  --it;
  begin = it->first;
  return at - begin < it->second.bytes ? &it->second : nullptr;
}

// Records one access; the words to stop the kernel with, or null.
const char* examine(uintptr_t at, size_t bytes, bool write, bool atomic, void* pc) {
  const Lane* l = self;
  if (at - reinterpret_cast<uintptr_t>(l->stack) < kStack) return nullptr;
  if (at - reinterpret_cast<uintptr_t>(l) < sizeof(Lane)) return nullptr;  // threadIdx
  if (!write && at - host_frame < 65536) return nullptr;  // arguments of the launch
  const Region* region = find_shared(at);
  uintptr_t begin = 0;
  Memory* memory = find(region ? shared_memories : memories, at, begin);
  if (!memory) {
    Dl_info info{};
    if (!write && dladdr(reinterpret_cast<void*>(at), &info)) return nullptr;  // a constant
    char text[96];
    std::snprintf(text, sizeof text, "%s of %zu bytes outside all memory of the device",
                  write ? "write" : "read", bytes);
    tell(text, pc, nullptr);
    return "stopped";
  }
  const std::string name = region ? region->name : "device memory";
  if (at - begin + bytes > memory->bytes) {
    tell(std::string(write ? "write" : "read") + " over the end of " + name, pc, nullptr);
    return "stopped";
  }
  if (bytes >= 4 && at % std::min<size_t>(bytes, 4)) tell("misaligned access", pc, nullptr);
  if (!memory->cells)
    memory->cells = static_cast<Cell*>(std::calloc(memory->bytes / 4 + 1, sizeof(Cell)));
  Stamp now{launch_serial, pc, static_cast<uint32_t>(linear_block()), l->block_epoch,
            l->warp_epoch, static_cast<uint16_t>(l->number), 0, atomic};
  for (size_t i = at - begin; i < at - begin + bytes;) {
    const size_t stop = std::min(i / 4 * 4 + 4, at - begin + bytes);
    now.bytes = 0;
    for (; i < stop; ++i) now.bytes |= 1 << i % 4;
    word(memory->cells[(i - 1) / 4], now, write, region != nullptr, name);
  }
  return nullptr;
}

void access(uintptr_t at, size_t bytes, bool write, bool atomic, void* pc) {
  static bool busy = false;  // library code may be shared with instrumented code
  if (!self || busy) return;
  busy = true;
  const char* stop = examine(at, bytes, write, atomic, pc);
  busy = false;
  if (stop) fail(stop);
}

void forget(std::map<uintptr_t, Memory>& in, uintptr_t at) {
  const auto it = in.find(at);
  if (it == in.end()) return;
  std::free(it->second.cells);
  in.erase(it);
}

}  // namespace

void track(void* p, size_t bytes) { memories[reinterpret_cast<uintptr_t>(p)] = {bytes, nullptr}; }
void untrack(void* p) { forget(memories, reinterpret_cast<uintptr_t>(p)); }
void track_shared(const Region& r) { shared_memories[r.begin] = {r.bytes, nullptr}; }
void untrack_shared() {
  for (auto& [begin, memory] : shared_memories) std::free(memory.cells);
  shared_memories.clear();
}
void on_atomic(const void* p, size_t bytes) {
  access(reinterpret_cast<uintptr_t>(p), bytes, true, true, __builtin_return_address(0));
}
std::string take_reports() { return std::exchange(reports, {}); }

}  // namespace cuemu

extern "C" void cuemu_track(void* p, size_t bytes) { cuemu::track(p, bytes); }
extern "C" void cuemu_untrack(void* p) { cuemu::untrack(p); }

#define HOOK(n)                                                                        \
  extern "C" void __tsan_read##n(void* p) {                                            \
    cuemu::access(reinterpret_cast<uintptr_t>(p), n, false, false,                     \
                  __builtin_return_address(0));                                        \
  }                                                                                    \
  extern "C" void __tsan_write##n(void* p) {                                           \
    cuemu::access(reinterpret_cast<uintptr_t>(p), n, true, false,                      \
                  __builtin_return_address(0));                                        \
  }                                                                                    \
  extern "C" void __tsan_unaligned_read##n(void* p) { __tsan_read##n(p); }             \
  extern "C" void __tsan_unaligned_write##n(void* p) { __tsan_write##n(p); }
HOOK(1)
HOOK(2)
HOOK(4)
HOOK(8)
HOOK(16)
extern "C" void __tsan_read_range(void* p, size_t n) {
  cuemu::access(reinterpret_cast<uintptr_t>(p), n, false, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* p, size_t n) {
  cuemu::access(reinterpret_cast<uintptr_t>(p), n, true, false, __builtin_return_address(0));
}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
extern "C" void __tsan_vptr_read(void**) {}
