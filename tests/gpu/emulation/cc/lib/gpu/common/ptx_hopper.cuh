// Stands in for cc/lib/gpu/common/ptx_hopper.cuh on the emulated device.
#ifndef DCNV2_TESTS_GPU_EMULATION_CC_LIB_GPU_COMMON_PTX_HOPPER_CUH_
#define DCNV2_TESTS_GPU_EMULATION_CC_LIB_GPU_COMMON_PTX_HOPPER_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "cc/lib/gpu/common/ptx.cuh"
#include "cc/lib/storage.h"

#define DCNV2_HOPPER_CODE

namespace dcnv2 {
namespace ptx {

// Addresses count from the beginning of the block's shared memory.
inline unsigned char* Shared(uint32_t address) { return emulation::SharedOf(emulation::ClusterRank(), address); }
inline uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(shared) - Shared(0));
}

// What a barrier's 8 bytes hold here. For the thread sanitizer accesses to them are atomic: they order others.
struct MemoryBarrier {
  uint16_t arrivals, missing;
  int32_t missing_bytes : 31;
  uint32_t parity : 1;  // of the phase that is not over
};
static_assert(sizeof(MemoryBarrier) == sizeof(uint64_t), "as on GPUs");

inline uint64_t* BarrierAt(uint32_t address) {
  if (address % sizeof(uint64_t) != 0) emulation::Fail("a barrier at the misaligned address %u", address);
  return reinterpret_cast<uint64_t*>(Shared(address));
}
inline MemoryBarrier ReadBarrier(const uint64_t* memory) {
  const uint64_t bits = __atomic_load_n(memory, __ATOMIC_RELAXED);
  MemoryBarrier barrier;
  std::memcpy(&barrier, &bits, sizeof(bits));
  return barrier;
}
inline void WriteBarrier(const MemoryBarrier& barrier, uint64_t* memory) {
  uint64_t bits;
  std::memcpy(&bits, &barrier, sizeof(bits));
  __atomic_store_n(memory, bits, __ATOMIC_RELAXED);
}

inline void ChangeBarrier(uint32_t address, int arrivals, int missing_bytes) {
  uint64_t* const memory = BarrierAt(address);
  MemoryBarrier barrier = ReadBarrier(memory);
  if (barrier.missing < arrivals) emulation::Fail("more threads arrive at a barrier than it counts");
  barrier.missing = static_cast<uint16_t>(barrier.missing - arrivals);
  barrier.missing_bytes += missing_bytes;
  if (barrier.missing == 0 && barrier.missing_bytes == 0) {
    barrier.missing = barrier.arrivals;
    barrier.parity ^= 1;
  }
  WriteBarrier(barrier, memory);
  emulation::ArriveAtMemory(memory);
}

inline void InitBarrier(uint32_t barrier, int arrivals) {
  const auto count = static_cast<uint16_t>(arrivals);
  WriteBarrier({count, count, 0, 0}, BarrierAt(barrier));
}
inline void FenceBarrierInit() {}
inline void ArriveAtBarrier(uint32_t barrier) { ChangeBarrier(barrier, 1, 0); }
inline void ArriveAndExpectBytes(uint32_t barrier, int bytes) { ChangeBarrier(barrier, 1, bytes); }
inline void WaitForBarrier(uint32_t barrier, int parity) {
  uint64_t* const memory = BarrierAt(barrier);
  emulation::WaitForMemory(memory, [=] { return static_cast<int>(ReadBarrier(memory).parity) != parity; });
}

inline void FenceForAsync() {}

inline void CopyBulk(uint32_t shared, const void* global, int bytes, uint32_t barrier) {
  if (bytes % 16 != 0) emulation::Fail("a bulk copy of %d bytes", bytes);
  RequireAligned16(Shared(shared), "a bulk copy to shared memory");
  RequireAligned16(global, "a bulk copy from global memory");
  std::memcpy(Shared(shared), global, static_cast<size_t>(bytes));
  ChangeBarrier(barrier, 0, -bytes);
}

inline int ClusterRank() { return emulation::ClusterRank(); }
inline void SynchronizeCluster() { emulation::SynchronizeCluster(); }
inline void StoreToBlock(int rank, uint32_t address, float4 value) {
  std::memcpy(emulation::SharedOf(rank, address), &value, sizeof(value));
}
inline void SynchronizeThreads(int barrier, int threads) { emulation::SynchronizeThreads(barrier, threads); }

template <int kRegisters>
void GrowRegisters() {}
template <int kRegisters>
void ShrinkRegisters() {}

inline void WaitForEarlierKernel() {}
inline void LetLaterKernelBegin() {}

inline uint64_t SwizzledMatrix(uint32_t address) {
  if (address % 1024 != 0) emulation::Fail("a matrix at the address %u", address);
  return address / 16;
}
inline uint64_t StepOfMatrix(uint64_t matrix, int k) { return matrix + k * (32 / 16); }

inline void BeginProducts() {}
inline void CommitProducts() { emulation::CommitDeferred(); }
// Collective: what one lane does next, it does after all have waited.
template <int kPending>
void WaitForProducts() {
  emulation::WaitForDeferred(kPending);
  __syncwarp();
}

// The numbers of 32 bytes of a row.
template <typename Element>
struct MatrixRow {
  static constexpr int kCount = 32 / sizeof(Element);
  float values[kCount];

  MatrixRow(uint64_t matrix, int row) {
    for (int half = 0; half < 2; ++half) {
      const auto plain = static_cast<uint32_t>(matrix) * 16 + row * 128 + half * 16;
      const uint32_t address = plain ^ (plain >> 3 & 0x70);
      Element elements[kCount / 2];
      std::memcpy(elements, Shared(address), sizeof(elements));
      for (int i = 0; i < kCount / 2; ++i) {
        float value = Widen(elements[i]);
        if constexpr (sizeof(Element) == 4) value = FloatOf(BitsOf(value) & 0xffffe000u);
        values[half * kCount / 2 + i] = value;
      }
    }
  }
};

// Each thread computes its own sums, when it waits for them.
template <typename Element, int kSums>
void StartProduct(float (&sums)[kSums], uint64_t a, uint64_t b, int adds) {
  float* const target = sums;
  emulation::Defer([=] {
    using Row = MatrixRow<Element>;
    const int lane = static_cast<int>(threadIdx.x % 32),
              first_row = static_cast<int>(threadIdx.x % 128 / 32 * 16) + lane / 4;
    const Row rows[2] = {Row(a, first_row), Row(a, first_row + 8)};
    for (int pair = 0; pair < kSums / 4; ++pair) {
      for (int i = 0; i < 2; ++i) {
        const Row column(b, 8 * pair + lane % 4 * 2 + i);
        for (int half = 0; half < 2; ++half) {
          float& sum = target[4 * pair + 2 * half + i];
          double total = adds != 0 ? double{sum} : 0.0;
          for (int k = 0; k < Row::kCount; ++k) total += double{rows[half].values[k]} * column.values[k];
          sum = TruncateToFloat(total);
        }
      }
    }
  });
}

}  // namespace ptx
}  // namespace dcnv2

#endif  // DCNV2_TESTS_GPU_EMULATION_CC_LIB_GPU_COMMON_PTX_HOPPER_CUH_
