#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#if !defined(__x86_64__)
#error "the emulated device switches stacks by hand and knows x86-64 only"
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(DCNV2_EMULATED_RACES)
#include <sanitizer/tsan_interface.h>
#endif

// Saves the registers that belong to the caller and the stack pointer, and takes up those of the other side.
extern "C" void dcnv2_emulation_switch(void** save, void* load);
asm(R"(
.text
.hidden dcnv2_emulation_switch
.type dcnv2_emulation_switch, @function
dcnv2_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size dcnv2_emulation_switch, . - dcnv2_emulation_switch
)");

namespace emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = 256 * 1024;
// Stacks begin at different places of their pages, or all would take the same few lines of the processor's caches.
constexpr size_t kStackStep = 320, kStackSteps = 12;

#if defined(__SANITIZE_ADDRESS__)
// The owner's stack, as the sanitizer says when a fiber is entered, and wants to hear when it is left.
const void* owner_stack = nullptr;
size_t owner_stack_bytes = 0;
#endif

void (*fresh_entry)() = nullptr;

void EnterFresh() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &owner_stack, &owner_stack_bytes);
#endif
  fresh_entry();
  std::abort();
}

}  // namespace

Fiber::Fiber() : inside_(nullptr), outside_(nullptr), fake_stack_(nullptr), watched_(nullptr), watched_owner_(nullptr) {
#if defined(DCNV2_EMULATED_RACES)
  watched_ = __tsan_create_fiber(0);
#endif
  void* memory = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) std::abort();
  stack_ = static_cast<char*>(memory) + kPage;
  static size_t count = 0;
  start_ = stack_ + kStackBytes - count++ % kStackSteps * kStackStep;
}

Fiber::~Fiber() {
#if defined(DCNV2_EMULATED_RACES)
  __tsan_destroy_fiber(watched_);
#endif
  munmap(stack_ - kPage, kPage + kStackBytes);
}

void Fiber::Start(void (*entry)()) {
  // As if EnterFresh had been called, with six registers on the stack for the switch to take up.
  fresh_entry = entry;
  auto* top = reinterpret_cast<uintptr_t*>(start_) - 8;
  for (int i = 0; i < 6; ++i) top[i] = 0;
  top[6] = reinterpret_cast<uintptr_t>(&EnterFresh);
  top[7] = 0;
  inside_ = top;
  fake_stack_ = nullptr;
}

void Fiber::Resume() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
#if defined(DCNV2_EMULATED_RACES)
  watched_owner_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(watched_, __tsan_switch_to_fiber_no_sync);
#endif
  dcnv2_emulation_switch(&outside_, inside_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::Suspend() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, owner_stack, owner_stack_bytes);
#endif
#if defined(DCNV2_EMULATED_RACES)
  __tsan_switch_to_fiber(watched_owner_, __tsan_switch_to_fiber_no_sync);
#endif
  dcnv2_emulation_switch(&inside_, outside_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &owner_stack, &owner_stack_bytes);
#endif
}

}  // namespace emulation
