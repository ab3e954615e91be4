// A block of a product on dot products of pairs of bfloat16.
#ifndef DCNV2_CC_LIB_CPU_SIMD_DOT_BLOCK_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_DOT_BLOCK_INL_H_

#include "cc/lib/cpu/simd/matrix_units-inl.h"

namespace dcnv2 {

// Dots::Add(pair, pairs, &sums) adds the dot products of one pair of bfloat16 with 16 others to 16 sums.
template <typename Dots>
DCNV2_INLINE void MultiplyDotBlock(int64_t depth, const BFloat16* a, const BFloat16* b, float* c, int64_t c_stride,
                                   bool accumulate) {
  constexpr int kRows = 8;  // at a time, so that sums stay in registers
  constexpr int kVectors = 2, kLanes = 16;
  for (int64_t row = 0; row < kUnitBlock; row += kRows, a += kRows * kUnitTileStride, c += kRows * c_stride) {
    UnitFloats sums[kRows][kVectors] = {};
    const BFloat16* pairs = b;
    for (int64_t k = 0; k < depth; k += 2, pairs += 2 * kUnitBlock) {
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          Dots::Add(a + i * kUnitTileStride + k, pairs + v * 2 * kLanes, &sums[i][v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        float* const out = c + i * c_stride + v * kLanes;
        if (accumulate) sums[i][v] += *reinterpret_cast<const UnalignedUnitFloats*>(out);
        *reinterpret_cast<UnalignedUnitFloats*>(out) = sums[i][v];
      }
    }
  }
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_DOT_BLOCK_INL_H_
