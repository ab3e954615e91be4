// Tells the thread sanitizer which accesses of a block's threads are in order: for it fibers are threads, and what
// orders them are barriers alone, not the turns that they happen to take. Blocks are in order. Nothing without
// DCNV2_EMULATED_RACES, which replaces -fsanitize=thread for the emulator itself: its own memory has no races.
#ifndef DCNV2_TESTS_GPU_EMULATION_RACES_H_
#define DCNV2_TESTS_GPU_EMULATION_RACES_H_

#include <cstddef>

#if defined(DCNV2_EMULATED_RACES)
#include <sanitizer/tsan_interface.h>

extern "C" void __tsan_read_range(void* address, unsigned long bytes);
extern "C" void __tsan_write_range(void* address, unsigned long bytes);
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

namespace emulation {

// Whoever acquires a place comes after all who have released it.
inline void Release(void* place) {
#if defined(DCNV2_EMULATED_RACES)
  __tsan_release(place);
#else
  (void)place;
#endif
}

inline void Acquire(void* place) {
#if defined(DCNV2_EMULATED_RACES)
  __tsan_acquire(place);
#else
  (void)place;
#endif
}

// A copy that the emulator makes for a thread.
inline void NoteCopy(void* target, const void* source, size_t bytes) {
#if defined(DCNV2_EMULATED_RACES)
  __tsan_read_range(const_cast<void*>(source), bytes);
  __tsan_write_range(target, bytes);
#else
  (void)target, (void)source, (void)bytes;
#endif
}

// While one exists, what is written is nobody's business.
class Unwatched {
 public:
#if defined(DCNV2_EMULATED_RACES)
  Unwatched() { AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
  ~Unwatched() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
#else
  Unwatched() {}
#endif
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace emulation

#endif  // DCNV2_TESTS_GPU_EMULATION_RACES_H_
