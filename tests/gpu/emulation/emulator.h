// An emulated CUDA device, for finding mistakes without a GPU.
//
// Blocks run one after the other in random order. A thread of a block is a fiber, which runs until it waits for others;
// which one runs next is random too. So a barrier that is missing shows as a wrong result, for some seed at least.
// Shared memory is full of NaN when a block begins. What real devices punish by a crash or by nothing at all becomes an
// error that names block and thread: a barrier that not all threads reach, a misaligned access, writing past the shared
// memory that the launch asked for, a trap, an assertion.
#ifndef DCNV2_TESTS_GPU_EMULATION_EMULATOR_H_
#define DCNV2_TESTS_GPU_EMULATION_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "cuda_runtime_api.h"

namespace emulation {

constexpr int kWarpSize = 32;

struct Device {
  int major = 9, minor = 0;
  int multiprocessors = 4;
  uint64_t seed = 0;  // of the order in which blocks and threads run
};

// The device in use. It starts with the numbers in the environment variables DCNV2_EMULATED_CAPABILITY ("8.0"),
// DCNV2_EMULATED_MULTIPROCESSORS and DCNV2_EMULATED_SEED, where they are set; libraries export C functions:
// emulated_device(major, minor, multiprocessors, seed) replaces it, emulated_launches(records, capacity) writes blocks,
// threads per block, bytes of shared memory and atomic additions of floating-point numbers to global memory (all
// uint64) of the launches since the last call, and returns how many there were;
// emulated_observer(observer) has observer(stream, 1) called before the device uses its memory, for a launch, a copy or
// a memset, and observer(stream, 0) after it.
Device& CurrentDevice();

cudaError_t Launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& thread);

// What follows is called by threads of a block only.

// Ends the launch with an error.
[[noreturn]] void Fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

int Lane();

// __syncthreads.
void SynchronizeBlock();

// Waits until `threads` threads of the block have come to the barrier of this number, or all threads of the cluster.
void SynchronizeThreads(int barrier, int threads);
void SynchronizeCluster();

// Barriers that are memory: `is_over` looks at one, at `place`, and is asked again whenever threads have arrived at
// any.
void WaitForMemory(void* place, const std::function<bool()>& is_over);
void ArriveAtMemory(void* place);

// The number of the block in its cluster, and the same place in the shared memory of another one.
int ClusterRank();
unsigned char* SharedOf(int rank, size_t offset);

// What the calling thread starts and does not wait for. It is done when the thread waits, and no earlier.
void Defer(std::function<void()> work);
void CommitDeferred();
void WaitForDeferred(size_t pending_groups);

// Something that all lanes of a warp do together. Every lane hands over `bytes` bytes, at most kPostBytes; when all
// have done so, each goes on with what all of them handed over: kWarpSize posts of kPostBytes each, valid until its
// next collective.
enum class Collective { kSynchronize, kShuffle, kVote, kLoadMatrices, kMultiply };
constexpr size_t kPostBytes = 64;
const unsigned char* Exchange(Collective kind, const void* post, size_t bytes);

// Asynchronous copies of the calling thread, 16 bytes each. Until it has waited, the target holds NaN.
void StartCopy(void* target, const void* source);
void CommitCopies();
void WaitForCopies(size_t pending_groups);

// The calling thread adds a floating-point number atomically.
void CountAddition(const void* address);

}  // namespace emulation

#endif  // DCNV2_TESTS_GPU_EMULATION_EMULATOR_H_
