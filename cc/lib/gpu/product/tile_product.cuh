// Products of two tiles in shared memory that one block of threads adds up in its registers: sums += A B with A of
// kRows x kDepth and B of kDepth x kColumns.
//
// How a tile lies in shared memory, and how the numbers of a product are multiplied, are parameters; the members are
// the same for all (see TensorTileProduct and ScalarTileProduct):
//
//   kAStride, kBStride      elements from one row of a tile (row major) or column (column major) to the next
//   kABytes, kBBytes        size of a tile, a multiple of 16; its start is aligned to 16 bytes
//   kSteps                  parts that a product consists of, each over kDepth / kSteps of the depth
//   kRun                    neighbouring columns of a row that a thread holds together
//   Clear()                 sums = 0
//   Accumulate(a, b)        sums += a b
//   AccumulateStep(a, b, i) one step of it, for callers that do something else in between; i is an unrolled index
//   ForEach(visit)          visit(row, column, values) for all sums of this thread, values[kRun] being those from
//                           `column` on; `column` is a multiple of kRun
//
// All threads of the block call them together. Nothing synchronises: the tiles are complete before, and stay until
// every thread is done. Positions in the tiles beyond the problem hold zeros.
#ifndef DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_CUH_
#define DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_CUH_

#include <type_traits>

#include "cc/lib/gpu/product/tile_product_layout.cuh"
#include "cc/lib/gpu/product/tile_product_scalar.cuh"
#include "cc/lib/gpu/product/tile_product_tensor.cuh"

namespace dcnv2 {

// The type of the elements of tiles for tensors that are stored as S.
template <typename S, TileMath kMath>
using TileElement = std::conditional_t<kMath == TileMath::kScalar, Compute<S>, S>;

// kARounded: the elements of A are known to be TF32 numbers already, because StoreTileElements wrote them. Others are
// rounded whenever they are read, as those of B always are. Only kTf32 asks.
template <TileMath kMath, typename Element, int kRows, int kColumns, int kDepth, int kThreads, TileLayout kALayout,
          TileLayout kBLayout, bool kARounded = false>
using TileProduct = std::conditional_t<
    kMath == TileMath::kScalar, ScalarTileProduct<Element, kRows, kColumns, kDepth, kThreads, kALayout, kBLayout>,
    TensorTileProduct<kMath, Element, kRows, kColumns, kDepth, kThreads, kALayout, kBLayout, kARounded>>;

// Writes the neighbours values[0 .. kCount) of a tile, or zeros where they do not `exist`: rounded for the arithmetic,
// and where they fill 16 bytes as one vector, for which `target` is aligned.
template <TileMath kMath, typename Element, typename T, int kCount>
__device__ __forceinline__ void StoreTileElements(const T (&values)[kCount], bool exist, Element* target) {
  if constexpr (kCount == 1) {
    static_assert(kMath == TileMath::kScalar, "matrix units read vectors");
    *target = exist ? values[0] : T(0);
  } else {
    static_assert(kCount * sizeof(Element) == 16, "sixteen bytes");
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kMath == TileMath::kScalar || kMath == TileMath::kTf32x3) {
        words[i] = BitsOf(values[i]);
      } else if constexpr (kMath == TileMath::kTf32) {
        words[i] = ptx::RoundToTf32(values[i]);
      } else if constexpr (kMath == TileMath::kHalf) {
        words[i] = ptx::NarrowToHalf2(values[2 * i], values[2 * i + 1]);
      } else {
        words[i] = ptx::NarrowToBFloat162(values[2 * i], values[2 * i + 1]);
      }
      if (!exist) words[i] = 0;
    }
    *reinterpret_cast<uint4*>(target) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_CUH_
