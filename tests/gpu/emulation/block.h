// One block of threads at work.
#ifndef DCNV2_TESTS_GPU_EMULATION_BLOCK_H_
#define DCNV2_TESTS_GPU_EMULATION_BLOCK_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "vector_types.h"

namespace emulation {

// From here on kernels find the array `shared_memory`; this many bytes of it exist.
constexpr size_t kSharedMemoryBytes = 232448;

// Random numbers for the order in which things run: SplitMix64, since a kernel takes millions of them.
class Order {
 public:
  using result_type = uint64_t;

  explicit Order(uint64_t seed) : state_(seed) {}
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return std::numeric_limits<uint64_t>::max(); }

  uint64_t operator()() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// Runs every thread of a block, or of the blocks of a cluster of which this is the first, to its end; empty, or what
// went wrong. The number of threads is a multiple of the warp's.
std::string RunBlocks(const std::function<void()>& thread, uint3 index, unsigned cluster, dim3 size, dim3 grid,
                      size_t shared_bytes, Order& order);

bool IsShared(const void* address);

}  // namespace emulation

#endif  // DCNV2_TESTS_GPU_EMULATION_BLOCK_H_
