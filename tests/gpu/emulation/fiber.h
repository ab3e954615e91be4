// A flow of control with a stack of its own, entered and left by its owner's choice. One operating-system thread.
#ifndef DCNV2_TESTS_GPU_EMULATION_FIBER_H_
#define DCNV2_TESTS_GPU_EMULATION_FIBER_H_

#include <cstddef>

namespace emulation {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Sets the fiber to the start of `entry`, which must never return; what it was doing before is forgotten.
  void Start(void (*entry)());
  // From outside: continues the fiber until it suspends itself.
  void Resume();
  // From inside: goes back to whoever resumed the fiber.
  void Suspend();

 private:
  char* stack_;       // lowest address; below it a page that no one may touch
  char* start_;       // where the first frame goes, at the other end or near it
  void* inside_;      // stack pointer of the fiber while it is suspended
  void* outside_;     // and that of its owner while it is not
  void* fake_stack_;  // of the address sanitizer
  void* watched_;     // what the thread sanitizer knows it by
  void* watched_owner_;
};

}  // namespace emulation

#endif  // DCNV2_TESTS_GPU_EMULATION_FIBER_H_
