// Kernels that show what the emulated device does; tests/gpu/test_emulator.py says what they should.
#include <cuda_runtime.h>

#include <cassert>
#include <cstdint>

#include "cc/lib/gpu/common/ptx.cuh"
#include "cc/lib/gpu/common/ptx_hopper.cuh"
#include "cc/lib/storage.h"

namespace dcnv2 {
namespace {

constexpr int kThreads = 128;

enum class Math { kHalf, kBFloat16, kTf32 };

// c (16 x 8) = a (16 x 16, or x 8 for TF32) b, all row-major; one warp.
__global__ void MultiplyKernel(Math math, const unsigned char* a, const unsigned char* b, float* c) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int lane = threadIdx.x, group = lane / 4, pair = lane % 4;
  constexpr int kABytes = 512;  // of either type
  for (int i = lane; i < kABytes; i += 32) shared_memory[i] = a[i];
  for (int i = lane; i < 256; i += 32) shared_memory[kABytes + i] = b[i];
  __syncwarp();
  uint32_t a_fragment[4], b_fragments[4], b_fragment[2];
  if (math == Math::kTf32) {
    // A row of eight numbers is two of the matrices that LoadMatrices knows.
    ptx::LoadMatrices(a_fragment, shared_memory + (lane % 16) * 32 + lane / 16 * 16);
    const auto* b_words = reinterpret_cast<const uint32_t*>(shared_memory + kABytes);
    b_fragment[0] = b_words[pair * 8 + group];
    b_fragment[1] = b_words[(pair + 4) * 8 + group];
  } else {
    ptx::LoadMatrices(a_fragment, shared_memory + (lane % 16) * 32 + lane / 16 * 16);
    ptx::LoadMatricesTransposed(b_fragments, shared_memory + kABytes + lane % 16 * 16);
    b_fragment[0] = b_fragments[0];
    b_fragment[1] = b_fragments[1];
  }
  float sum[4] = {0, 0, 0, 0};
  if (math == Math::kHalf) ptx::MultiplyHalf(sum, a_fragment, b_fragment);
  if (math == Math::kBFloat16) ptx::MultiplyBFloat16(sum, a_fragment, b_fragment);
  if (math == Math::kTf32) ptx::MultiplyTf32(sum, a_fragment, b_fragment);
  for (int i = 0; i < 4; ++i) c[(group + i / 2 * 8) * 8 + 2 * pair + i % 2] = sum[i];
}

// Four rows of 32: the sum over the warp, the neighbours one down and one up, and lane 3 of each segment of 8.
__global__ void ShuffleKernel(const float* in, float* out) {
  const int lane = threadIdx.x;
  const float value = in[lane];
  float sum = value;
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  out[lane] = sum;
  out[32 + lane] = __shfl_down_sync(0xffffffffu, value, 1);
  out[64 + lane] = __shfl_up_sync(0xffffffffu, value, 1);
  out[96 + lane] = __shfl_sync(0xffffffffu, value, 3, 8);
}

// Copies kThreads vectors of each block in reverse through shared memory; `valid` of them, the others are zero.
__global__ void CopyKernel(const float4* in, float4* out, int valid, bool wait, bool synchronize) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  auto* rows = reinterpret_cast<float4*>(shared_memory);
  const int thread = threadIdx.x, first = blockIdx.x * kThreads;
  ptx::CopyAsync16(rows + thread, in + first + thread, thread < valid);
  ptx::CopyAsyncCommit();
  if (wait) ptx::CopyAsyncWait<0>();
  if (synchronize) __syncthreads();
  out[first + thread] = rows[kThreads - 1 - thread];
}

enum class Order { kNone, kShuffle, kWarp, kBlock };

// Three rounds in which each thread leaves a number for the lane before it, and takes the one left for itself.
__global__ void HandOverKernel(Order order, int* out) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  auto* numbers = reinterpret_cast<volatile int*>(shared_memory);
  const int thread = threadIdx.x, next = thread / 32 * 32 + (thread + 1) % 32;
  for (int round = 0; round < 3; ++round) {
    numbers[round % 2 * kThreads + thread] = thread + round;
    if (order == Order::kShuffle) __shfl_xor_sync(0xffffffffu, 1, 1);
    if (order == Order::kWarp) __syncwarp();
    if (order == Order::kBlock) __syncthreads();
    out[thread] = numbers[round % 2 * kThreads + next];
  }
}

// Every thread of every block adds to the same four numbers.
__global__ void AddKernel(float* sums) {
  ptx::AtomicAdd4(sums, make_float4(1, 2, 3, 4));
  atomicAdd(sums, 1.0f);
}

enum class Fault {
  kNone,
  kDivergedBarrier,
  kMissingLane,
  kMixedCollectives,
  kMisalignedLoad,
  kMisalignedCopy,
  kSharedOverflow,
  kArrayOverflow,
  kTrap,
  kAssertion,
  kMissingArrival,
  kMissingThreads,
  kMissingBlock,
};

__global__ void FaultKernel(Fault fault, float* memory) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const bool chosen = threadIdx.x == 37;
  if (fault == Fault::kDivergedBarrier && !chosen) __syncthreads();
  if (fault == Fault::kMissingLane && !chosen) __syncwarp();
  if (fault == Fault::kMixedCollectives) {
    if (chosen) {
      __syncwarp();
    } else {
      __shfl_xor_sync(0xffffffffu, 1, 1);
    }
  }
  if (!chosen) return;
  if (fault == Fault::kMisalignedLoad) memory[0] = reinterpret_cast<const float4*>(memory + 1)->x;
  if (fault == Fault::kMisalignedCopy) ptx::CopyAsync16(shared_memory + 4, memory, true);
  if (fault == Fault::kSharedOverflow) shared_memory[kThreads] = 0;
  if (fault == Fault::kArrayOverflow) {
    float sums[4] = {0, 0, 0, 0};
    sums[static_cast<int>(memory[0])] = 1;
    memory[0] = sums[0];
  }
  if (fault == Fault::kTrap) __trap();
  if (fault == Fault::kAssertion) assert(memory == nullptr);
  if (fault == Fault::kMissingArrival) {
    const uint32_t barrier = ptx::SharedAddress(shared_memory);
    ptx::InitBarrier(barrier, 2);
    ptx::ArriveAtBarrier(barrier);
    ptx::WaitForBarrier(barrier, 0);
  }
  if (fault == Fault::kMissingThreads) ptx::SynchronizeThreads(1, 64);
  if (fault == Fault::kMissingBlock) ptx::StoreToBlock(1, 0, make_float4(0, 0, 0, 0));
}

cudaLaunchConfig_t Config(unsigned blocks, unsigned threads, size_t shared_bytes) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  return config;
}

}  // namespace
}  // namespace dcnv2

#pragma GCC visibility push(default)
extern "C" {
void use_device(int major, int minor, uint64_t seed) {
  emulation::Device& device = emulation::CurrentDevice();
  device.major = major;
  device.minor = minor;
  device.seed = seed;
}

const char* describe(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int multiply(int math, const unsigned char* a, const unsigned char* b, float* c) {
  const cudaLaunchConfig_t config = dcnv2::Config(1, 32, 1024);
  return cudaLaunchKernelEx(&config, dcnv2::MultiplyKernel, static_cast<dcnv2::Math>(math), a, b, c);
}

int shuffle(const float* in, float* out) {
  const cudaLaunchConfig_t config = dcnv2::Config(1, 32, 0);
  return cudaLaunchKernelEx(&config, dcnv2::ShuffleKernel, in, out);
}

int copy(const float4* in, float4* out, int blocks, int valid, bool wait, bool synchronize) {
  const cudaLaunchConfig_t config = dcnv2::Config(blocks, dcnv2::kThreads, 16 * dcnv2::kThreads);
  return cudaLaunchKernelEx(&config, dcnv2::CopyKernel, in, out, valid, wait, synchronize);
}

int hand_over(int order, int* out) {
  const cudaLaunchConfig_t config = dcnv2::Config(2, dcnv2::kThreads, 2 * sizeof(int) * dcnv2::kThreads);
  return cudaLaunchKernelEx(&config, dcnv2::HandOverKernel, static_cast<dcnv2::Order>(order), out);
}

int add(float* sums, int blocks) {
  const cudaLaunchConfig_t config = dcnv2::Config(blocks, dcnv2::kThreads, 0);
  return cudaLaunchKernelEx(&config, dcnv2::AddKernel, sums);
}

int fault(int kind, float* memory) {
  const cudaLaunchConfig_t config = dcnv2::Config(2, dcnv2::kThreads, dcnv2::kThreads);
  return cudaLaunchKernelEx(&config, dcnv2::FaultKernel, static_cast<dcnv2::Fault>(kind), memory);
}

// Launches with `bytes` of shared memory, after asking for `allowed` of them unless that is negative.
int use_shared_memory(int allowed, int bytes, float* memory) {
  if (allowed >= 0) {
    const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
    const cudaError_t refused = cudaFuncSetAttribute(dcnv2::FaultKernel, attribute, allowed);
    if (refused != cudaSuccess) return refused;
  }
  const cudaLaunchConfig_t config = dcnv2::Config(1, dcnv2::kThreads, static_cast<size_t>(bytes));
  return cudaLaunchKernelEx(&config, dcnv2::FaultKernel, dcnv2::Fault::kNone, memory);
}

}  // extern "C"
#pragma GCC visibility pop
