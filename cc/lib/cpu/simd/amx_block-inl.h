// A block of a product on the eight tiles of AMX, each of 16 rows of 64 bytes.
#ifndef DCNV2_CC_LIB_CPU_SIMD_AMX_BLOCK_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_AMX_BLOCK_INL_H_

#include "cc/lib/cpu/simd/matrix_units-inl.h"

namespace dcnv2 {

// Tiles 0 to 3 hold the four quarters of C; 4 and 5 the upper and the lower half of A, 6 and 7 the left and the right
// half of B, for a step of kUnitBlock along the depth: all that there are. `Tiles` has the instructions.
template <typename Tiles>
DCNV2_INLINE void MultiplyAmxBlock(int64_t depth, const BFloat16* a, const BFloat16* b, float* c, int64_t c_stride,
                                   bool accumulate) {
  constexpr int64_t kHalf = kUnitBlock / 2;
  constexpr int64_t kStrideA = kUnitTileStride * sizeof(BFloat16);
  constexpr int64_t kStrideB = 2 * kUnitBlock * sizeof(BFloat16);
  const int64_t stride_c = c_stride * sizeof(float);
  float* const lower_c = c + kHalf * c_stride;
  if (accumulate) {
    Tiles::template Load<0>(c, stride_c);
    Tiles::template Load<1>(c + kHalf, stride_c);
    Tiles::template Load<2>(lower_c, stride_c);
    Tiles::template Load<3>(lower_c + kHalf, stride_c);
  } else {
    Tiles::template Clear<0>();
    Tiles::template Clear<1>();
    Tiles::template Clear<2>();
    Tiles::template Clear<3>();
  }
  for (int64_t k = 0; k < depth; k += kUnitBlock, b += kUnitBlock * kUnitBlock) {
    Tiles::template Load<4>(a + k, kStrideA);
    Tiles::template Load<6>(b, kStrideB);
    Tiles::template AddProduct<0, 4, 6>();
    Tiles::template Load<7>(b + kUnitBlock, kStrideB);
    Tiles::template AddProduct<1, 4, 7>();
    Tiles::template Load<5>(a + k + kHalf * kUnitTileStride, kStrideA);
    Tiles::template AddProduct<2, 5, 6>();
    Tiles::template AddProduct<3, 5, 7>();
  }
  Tiles::template Store<0>(c, stride_c);
  Tiles::template Store<1>(c + kHalf, stride_c);
  Tiles::template Store<2>(lower_c, stride_c);
  Tiles::template Store<3>(lower_c + kHalf, stride_c);
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_AMX_BLOCK_INL_H_
