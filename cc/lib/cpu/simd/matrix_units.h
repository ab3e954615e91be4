// Products of bfloat16 matrices on the units that some processors have for them: the tiles of AMX, or the dot products
// of AVX512-BF16. Factors are bfloat16, sums float32.
#ifndef DCNV2_CC_LIB_CPU_SIMD_MATRIX_UNITS_H_
#define DCNV2_CC_LIB_CPU_SIMD_MATRIX_UNITS_H_

#include <cstdint>

#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/storage.h"

namespace dcnv2 {

// A product has whole blocks of so many rows, columns and elements of the depth: whoever has fewer pads them.
constexpr int64_t kUnitBlock = 32;

// The left factor is a tile of at most so many columns, few enough for a block of its rows to stay in the first-level
// cache. Rows are 17 cache lines apart: odd, so that equal columns of successive rows use different cache sets.
constexpr int64_t kUnitTileColumns = 512;
constexpr int64_t kUnitTileStride = kUnitTileColumns + kUnitBlock;

// C[rows, columns] (+)= A[rows, depth] * B[depth, columns]; the sizes are multiples of kUnitBlock.
struct UnitProduct {
  int64_t rows, columns, depth;
  const BFloat16* a;         // its stride is kUnitTileStride
  const BFloat16* packed_b;  // panels from PackPairs
  float* c;
  int64_t c_stride;
  bool accumulate;
};

struct MatrixUnits {
  const char* name;

  void (*multiply)(const UnitProduct& product);

  // SimdKernels::gather into a tile of stride kUnitTileStride, rounded to bfloat16, with its columns in the order of
  // UnitColumn. Runs are multiples of kUnitBlock long and begin at multiples of it.
  void (*gather)(const ColumnBlock<BFloat16>& block, const SamplePlan<float>& plan, BFloat16* tile);

  // The same as the right factor of a product whose depth are the block's pixels, in panels like those of PackPairs:
  // `depth` of them, a multiple of kUnitBlock, of which those that the block lacks are zeros. Every panel's columns are
  // in the order of UnitColumn.
  void (*gather_pairs)(const ColumnBlock<BFloat16>& block, const SamplePlan<float>& plan, int64_t depth,
                       BFloat16* packed);

  // SimdKernels::narrow.
  void (*narrow)(const float* values, int64_t size, BFloat16* out);
};

// The fastest units that this processor has and that the system lets this process use; null without any. The variable
// TF_DCNV2_SIMD (kernels.h) may ask for slower ones by their names, which are avx512_bf16, emulated_amx and
// emulated_avx512_bf16. The emulated ones run on every processor, to test the loops around them.
const MatrixUnits* BestMatrixUnits();

// The column that is gathered into a tile's column `position`: of every 32, first the even ones and then the odd ones.
// That is how a register of bfloat16 comes apart into two of floats.
inline int64_t UnitColumn(int64_t position) {
  const int64_t first = position / kUnitBlock * kUnitBlock, in_block = position % kUnitBlock;
  constexpr int64_t kHalf = kUnitBlock / 2;
  return first + (in_block < kHalf ? 2 * in_block : 2 * (in_block - kHalf) + 1);
}

// Packs one panel of B[depth, columns] in pairs of rows, as dot products take them: next to each element of an even row
// that of the odd one. row(k) gives the `valid` elements of the k-th; zeros fill up the panel. Returns its end.
template <typename Row>
BFloat16* PackPairs(int64_t depth, int64_t valid, const Row& row, BFloat16* packed) {
  const auto pack_row_pair = [&](const BFloat16* even, const BFloat16* odd, int64_t count) {
    for (int64_t j = 0; j < count; ++j) {
      packed[2 * j] = even[j];
      packed[2 * j + 1] = odd[j];
    }
  };
  for (int64_t k = 0; k < depth; k += 2, packed += 2 * kUnitBlock) {
    if (valid == kUnitBlock) {
      pack_row_pair(row(k), row(k + 1), kUnitBlock);  // a loop of constant length has vectors
    } else {
      pack_row_pair(row(k), row(k + 1), valid);
      for (int64_t j = 2 * valid; j < 2 * kUnitBlock; ++j) packed[j] = {};
    }
  }
  return packed;
}

// Each kind of unit has its table in a file of its own.
#if defined(__x86_64__)
extern const MatrixUnits kAmxUnits;
extern const MatrixUnits kAvx512Bf16Units;
#endif
extern const MatrixUnits kEmulatedAmxUnits;
extern const MatrixUnits kEmulatedAvx512Bf16Units;

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_MATRIX_UNITS_H_
