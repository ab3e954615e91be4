// Stands in for cc/lib/gpu/common/ptx.cuh on the emulated device.
#ifndef DCNV2_TESTS_GPU_EMULATION_CC_LIB_GPU_COMMON_PTX_CUH_
#define DCNV2_TESTS_GPU_EMULATION_CC_LIB_GPU_COMMON_PTX_CUH_

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cc/lib/storage.h"

namespace dcnv2 {
namespace ptx {

inline void RequireAligned16(const void* address, const char* what) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) emulation::Fail("%s at the misaligned address %p", what, address);
}

inline void RequireAmpere(const char* what) {
  if (emulation::CurrentDevice().major < 8) emulation::Fail("%s before compute capability 8.0", what);
}

// A lane's share of both factors, widened: of a first the row g, then g + 8; of b the column g.
struct Fragments {
  float a[8], b[4];
};

// Matrix units cut off what a float32 number does not hold.
inline float TruncateToFloat(double value) {
  const auto rounded = static_cast<float>(value);
  const bool too_far = std::isfinite(rounded) && std::fabs(double{rounded}) > std::fabs(value);
  return too_far ? FloatOf(BitsOf(rounded) - 1) : rounded;  // the next number towards zero
}

// The 16 x 8 sum of products along kDepth. Element k of a row or column g lies in lane 4g + holder(k), as its
// slot(k)-th. Emulated kernels spend a third of their time here: nothing is left to compute for every k, and the checks
// are for kernels' accesses, not for these.
template <int kDepth, typename Holder, typename Slot>
__attribute__((no_sanitize("alignment", "bounds", "null"))) void MultiplyFragments(float (&sum)[4],
                                                                                   const Fragments& own, Holder holder,
                                                                                   Slot slot) {
  constexpr int kHeld = kDepth / 4;
  const unsigned char* posts = emulation::Exchange(emulation::Collective::kMultiply, &own, sizeof(own));
  const auto fragments = [&](int lane) __attribute__((no_sanitize("alignment", "bounds", "null"))) {
    return reinterpret_cast<const Fragments*>(posts + lane * emulation::kPostBytes);
  };
  const int lane = emulation::Lane(), group = lane / 4;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int column = lane % 4 * 2 + i % 2;
    double total = 0;
#pragma GCC unroll 16
    for (int k = 0; k < kDepth; ++k) {
      total += double{fragments(4 * group + holder(k))->a[i / 2 * kHeld + slot(k)]} *
               fragments(4 * column + holder(k))->b[slot(k)];
    }
    sum[i] = TruncateToFloat(sum[i] + total);
  }
}

template <typename S>
void MultiplyHalves(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const auto half = [](uint32_t pair, int i) { return Widen(S{static_cast<uint16_t>(pair >> (16 * i))}); };
  Fragments own;
  for (int i = 0; i < 4; ++i) {
    own.a[i] = half(a[i / 2 * 2], i % 2);
    own.a[4 + i] = half(a[i / 2 * 2 + 1], i % 2);
    own.b[i] = half(b[i / 2], i % 2);
  }
  MultiplyFragments<16>(sum, own, [](int k) { return k % 8 / 2; }, [](int k) { return k / 8 * 2 + k % 2; });
}

inline void MultiplyHalf(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  MultiplyHalves<Half>(sum, a, b);
}

inline void MultiplyBFloat16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  RequireAmpere("a product of bfloat16");
  MultiplyHalves<BFloat16>(sum, a, b);
}

inline void MultiplyTf32(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  RequireAmpere("a product of TF32");
  const auto truncated = [](uint32_t bits) { return FloatOf(bits & 0xffffe000); };
  Fragments own = {};
  for (int i = 0; i < 2; ++i) {
    own.a[i] = truncated(a[2 * i]);
    own.a[2 + i] = truncated(a[2 * i + 1]);
    own.b[i] = truncated(b[i]);
  }
  MultiplyFragments<8>(sum, own, [](int k) { return k % 4; }, [](int k) { return k / 4; });
}

inline uint32_t RoundToTf32(float value) {
  RequireAmpere("rounding to TF32");
  const uint32_t bits = BitsOf(value);
  if (value != value) return 0x7fffffff;
  return ((bits & 0x7fffffff) == 0x7f800000 ? bits : bits + 0x1000) & 0xffffe000;
}

// The lane's own row is read before it waits for the others, so that rows that were written without a barrier are seen
// as they were.
inline const uint16_t* ExchangeRows(const void* shared_row) {
  RequireAligned16(shared_row, "loading matrices");
  const uint4 row = *static_cast<const uint4*>(shared_row);
  const auto* posts = emulation::Exchange(emulation::Collective::kLoadMatrices, &row, 16);
  return reinterpret_cast<const uint16_t*>(posts);
}

inline void LoadMatrices(uint32_t (&fragments)[4], const void* shared_row) {
  constexpr int kPitch = emulation::kPostBytes / sizeof(uint16_t);
  const uint16_t* rows = ExchangeRows(shared_row);
  const int group = emulation::Lane() / 4, pair = emulation::Lane() % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    const uint16_t* row = rows + (8 * i + group) * kPitch;
    fragments[i] = row[pair] | uint32_t{row[pair + 1]} << 16;
  }
}

inline void LoadMatricesTransposed(uint32_t (&fragments)[4], const void* shared_row) {
  constexpr int kPitch = emulation::kPostBytes / sizeof(uint16_t);
  const uint16_t* rows = ExchangeRows(shared_row);
  const int group = emulation::Lane() / 4, pair = emulation::Lane() % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    const uint16_t* low = rows + (8 * i + pair) * kPitch + group;
    fragments[i] = low[0] | uint32_t{low[kPitch]} << 16;
  }
}

inline void CopyAsync16(void* shared, const void* global, bool valid) {
  static constexpr uint4 kZeros = {};
  RequireAligned16(shared, "an asynchronous copy to shared memory");
  if (valid) RequireAligned16(global, "an asynchronous copy from global memory");
  const void* source = valid ? global : &kZeros;
  if (emulation::CurrentDevice().major >= 8) {
    emulation::StartCopy(shared, source);
  } else {
    std::memcpy(shared, source, 16);
  }
}

inline void CopyAsyncCommit() { emulation::CommitCopies(); }

template <int kPending>
void CopyAsyncWait() {
  emulation::WaitForCopies(kPending);
}

inline void AtomicAdd4(float* address, float4 value) {
  RequireAligned16(address, "a vector addition");
  atomicAdd(address, value.x);
  atomicAdd(address + 1, value.y);
  atomicAdd(address + 2, value.z);
  atomicAdd(address + 3, value.w);
}

inline float WidenHalf(uint16_t bits) { return Widen(Half{bits}); }

inline uint32_t NarrowToHalf2(float low, float high) {
  return Narrow<Half>(low).bits | uint32_t{Narrow<Half>(high).bits} << 16;
}

inline uint32_t NarrowToBFloat162(float low, float high) {
  return Narrow<BFloat16>(low).bits | uint32_t{Narrow<BFloat16>(high).bits} << 16;
}

}  // namespace ptx
}  // namespace dcnv2

#endif  // DCNV2_TESTS_GPU_EMULATION_CC_LIB_GPU_COMMON_PTX_CUH_
