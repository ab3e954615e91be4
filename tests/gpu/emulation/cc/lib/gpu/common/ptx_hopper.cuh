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

// What a barrier's 8 bytes hold here.
struct MemoryBarrier {
  uint16_t arrivals, missing;
  int32_t missing_bytes : 31;
  uint32_t parity : 1;  // of the phase that is not over

  void EndPhaseIfComplete() {
    if (missing != 0 || missing_bytes != 0) return;
    missing = arrivals;
    parity ^= 1;
  }
};
static_assert(sizeof(MemoryBarrier) == 8, "as on GPUs");

template <typename Change>
void ChangeBarrier(uint32_t address, Change change) {
  auto* const barrier = reinterpret_cast<MemoryBarrier*>(Shared(address));
  change(barrier);
  barrier->EndPhaseIfComplete();
  emulation::ArriveAtMemory(barrier);
}

// Barriers are accessed by what orders threads, and are in no order themselves.
#define DCNV2_UNORDERED __attribute__((no_sanitize("thread")))

DCNV2_UNORDERED inline void InitBarrier(uint32_t barrier, int arrivals) {
  if (barrier % 8 != 0) emulation::Fail("a barrier at the misaligned address %u", barrier);
  const auto count = static_cast<uint16_t>(arrivals);
  *reinterpret_cast<MemoryBarrier*>(Shared(barrier)) = {count, count, 0, 0};
}

inline void FenceBarrierInit() {}

DCNV2_UNORDERED inline void ArriveAtBarrier(uint32_t barrier) {
  ChangeBarrier(barrier, [](MemoryBarrier* changed) {
    if (changed->missing == 0) emulation::Fail("more threads arrive at a barrier than it counts");
    --changed->missing;
  });
}

DCNV2_UNORDERED inline void ArriveAndExpectBytes(uint32_t barrier, int bytes) {
  ChangeBarrier(barrier, [bytes](MemoryBarrier* changed) {
    if (changed->missing == 0) emulation::Fail("more threads arrive at a barrier than it counts");
    --changed->missing;
    changed->missing_bytes += bytes;
  });
}

DCNV2_UNORDERED inline void WaitForBarrier(uint32_t barrier, int parity) {
  auto* const waited_for = reinterpret_cast<MemoryBarrier*>(Shared(barrier));
  emulation::WaitForMemory(waited_for, [=] { return static_cast<int>(waited_for->parity) != parity; });
}

inline void FenceForAsync() {}

inline void CopyBulk(uint32_t shared, const void* global, int bytes, uint32_t barrier) {
  if (bytes % 16 != 0) emulation::Fail("a bulk copy of %d bytes", bytes);
  RequireAligned16(Shared(shared), "a bulk copy to");
  RequireAligned16(global, "a bulk copy from");
  std::memcpy(Shared(shared), global, static_cast<size_t>(bytes));
  ChangeBarrier(barrier, [bytes](MemoryBarrier* changed) { changed->missing_bytes -= bytes; });
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

#undef DCNV2_UNORDERED

}  // namespace ptx
}  // namespace dcnv2

#endif  // DCNV2_TESTS_GPU_EMULATION_CC_LIB_GPU_COMMON_PTX_HOPPER_CUH_
