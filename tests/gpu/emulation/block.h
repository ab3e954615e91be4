// One block of threads at work.
#ifndef DCNV2_TESTS_GPU_EMULATION_BLOCK_H_
#define DCNV2_TESTS_GPU_EMULATION_BLOCK_H_

#include <cstdint>
#include <functional>
#include <random>
#include <string>

#include "vector_types.h"

namespace emulation {

// From here on kernels find the array `shared_memory`; this many bytes of it exist.
constexpr size_t kSharedMemoryBytes = 232448;

// Runs every thread of a block to its end; empty, or what went wrong. The number of threads is a multiple of the
// warp's.
std::string RunBlock(const std::function<void()>& thread, uint3 index, dim3 size, dim3 grid, size_t shared_bytes,
                     std::mt19937_64& order);

bool IsShared(const void* address);

}  // namespace emulation

#endif  // DCNV2_TESTS_GPU_EMULATION_BLOCK_H_
