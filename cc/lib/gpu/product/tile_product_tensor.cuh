// Tile products on the matrix units by mma.sync.
//
// A warp reads the operands of its part of the product from shared memory for every step: (rows + columns) elements of
// one step's depth for rows x columns sums. With 64 x 64 per warp that is about as much as shared memory delivers while
// the matrix units work; smaller warp tiles are bound by shared memory. All reads are free of bank conflicts.
//
// kTf32x3 multiplies float32 numbers as a = high + low, where high is a rounded to TF32 and low is the exact rest. Of
// the four products that of both rests, at most 2^-22 of a b, is left out, and low loses what is below 2^-23 of a when
// the unit ignores its last bits: the error of a product is that of a few roundings to float32. The unit cuts sums off
// instead of rounding them, with any arithmetic, so the error of a sum may grow with its length, not only with the
// length's square root.
#ifndef DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_TENSOR_CUH_
#define DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_TENSOR_CUH_

#include <cmath>

#include "cc/lib/gpu/product/tile_product_layout.cuh"

namespace dcnv2 {

// ldmatrix moves rows of 16 bytes whatever they hold, and distributes words of 4 bytes over the lanes: 2 neighbours of
// 16 bits, or 1 number of TF32. So one code reads both, except where it has to transpose, which ldmatrix does for
// 16-bit numbers only. TF32 operands that lie across the depth are read word by word: vectors would take as long in
// shared memory, and leave their words in registers that the matrix units do not take together, from which they would
// have to be copied for every product.
template <TileMath kMath, typename Element, int kRows, int kColumns, int kDepth, int kThreads, TileLayout kALayout,
          TileLayout kBLayout, bool kARounded>
class TensorTileProduct {
  static constexpr bool kIsSplit = kMath == TileMath::kTf32x3;
  static constexpr bool kIsTf32 = kMath == TileMath::kTf32 || kIsSplit;
  static_assert(sizeof(Element) == (kIsTf32 ? 4 : 2), "an element type that does not fit the arithmetic");
  static constexpr bool kARowMajor = kALayout == TileLayout::kRowMajor;
  static constexpr bool kBRowMajor = kBLayout == TileLayout::kRowMajor;
  static constexpr int kVector = 16 / sizeof(Element);  // elements of one row of a matrix that ldmatrix reads
  static constexpr int kStepDepth = 2 * kVector;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kRowWarps = WarpsAlongRows(kRows, kColumns, kWarps, 16, 16);
  static_assert(kRowWarps > 0, "the warps cannot share this tile evenly");
  static_assert(kDepth % kStepDepth == 0, "whole steps");
  static constexpr unsigned kAllLanes = 0xffffffffu;
  static constexpr int kColumnWarps = kWarps / kRowWarps;
  static constexpr int kWarpRows = kRows / kRowWarps, kWarpColumns = kColumns / kColumnWarps;
  static constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;  // of a warp

 public:
  // Rows start 16 bytes further in the cycle of the banks than the row before, or 32 where a warp reads eight
  // neighbours of four rows together.
  static constexpr int kAStride = kARowMajor ? kDepth + kVector : kRows + 8;
  static constexpr int kBStride = kBRowMajor ? kColumns + 8 : kDepth + kVector;
  static constexpr int kABytes = kAStride * (kARowMajor ? kRows : kDepth) * sizeof(Element);
  static constexpr int kBBytes = kBStride * (kBRowMajor ? kDepth : kColumns) * sizeof(Element);
  static constexpr int kSteps = kDepth / kStepDepth;
  static constexpr int kRun = 2;

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums_[i][j][e] = 0;
      }
    }
  }

  __device__ __forceinline__ void Accumulate(const Element* a, const Element* b) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) AccumulateStep(a, b, step);
  }

  __device__ __forceinline__ void AccumulateStep(const Element* a, const Element* b, int step) {
    const int first = step * kStepDepth;
    Fragments<kRowTiles, 4> a_fragments;
    ReadA(a, first, a_fragments.words);
    if constexpr (kIsSplit) a_fragments.Split();
    // As many columns at a time as ldmatrix delivers, or more where words are read and then looked at together.
    constexpr int kGroup = kIsSplit && kBRowMajor && kColumnTiles % 4 == 0 ? 4 : 2;
#pragma unroll
    for (int j = 0; j < kColumnTiles; j += kGroup) {
      Fragments<kGroup, 2> b_fragments;
      ReadB(b, first, j, b_fragments.words);
      if constexpr (kIsSplit) {
        b_fragments.Split();
        if (__any_sync(kAllLanes, !(a_fragments.nothing == 0 && b_fragments.nothing == 0))) {
          MultiplyAll<true>(j, a_fragments, b_fragments);
          continue;
        }
      }
      MultiplyAll<false>(j, a_fragments, b_fragments);
    }
  }

  template <typename Visit>
  __device__ __forceinline__ void ForEach(Visit visit) const {
    const int group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = WarpRow() + 16 * i + 8 * half + group;
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) {
          const float values[2] = {sums_[i][j][2 * half], sums_[i][j][2 * half + 1]};
          visit(row, WarpColumn() + 8 * j + 2 * member, values);
        }
      }
    }
  }

 private:
  static __device__ __forceinline__ int WarpRow() { return threadIdx.x / 32 / kColumnWarps * kWarpRows; }
  static __device__ __forceinline__ int WarpColumn() { return threadIdx.x / 32 % kColumnWarps * kWarpColumns; }

  // The fragments of several tiles that lie side by side.
  template <int kTiles, int kWords>
  struct Fragments {
    uint32_t words[kTiles][kWords];
    // Of kTf32x3: what the words lack, and zero, or NaN where one of them is not finite.
    uint32_t rest[kTiles][kWords];
    float nothing;

    // Makes numbers of TF32 of the words.
    __device__ __forceinline__ void Split() {
      nothing = 0;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int k = 0; k < kWords; ++k) {
          const float value = FloatOf(words[i][k]);
          words[i][k] = ptx::RoundToTf32(value);
          const float low = value - FloatOf(words[i][k]);
          rest[i][k] = BitsOf(low);
          nothing += 0.0f * low;
        }
      }
    }
  };

  // With columns from the j-th tile on. Of kTf32x3: whether infinities are among the numbers.
  template <bool kInfinities, int kGroup>
  __device__ __forceinline__ void MultiplyAll(int j, const Fragments<kRowTiles, 4>& a, const Fragments<kGroup, 2>& b) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int e = 0; e < kGroup; ++e) {
        float (&sum)[4] = sums_[i][j + e];
        if constexpr (kIsSplit) {
          MultiplySplit<kInfinities>(sum, a.words[i], a.rest[i], b.words[e], b.rest[e]);
        } else if constexpr (kIsTf32) {
          ptx::MultiplyTf32(sum, a.words[i], b.words[e]);
        } else if constexpr (kMath == TileMath::kHalf) {
          ptx::MultiplyHalf(sum, a.words[i], b.words[e]);
        } else {
          ptx::MultiplyBFloat16(sum, a.words[i], b.words[e]);
        }
      }
    }
  }

  template <bool kInfinities>
  static __device__ __forceinline__ void MultiplySplit(float (&sum)[4], const uint32_t (&a)[4],
                                                       const uint32_t (&a_rest)[4], const uint32_t (&b)[2],
                                                       const uint32_t (&b_rest)[2]) {
    // Small terms first.
    if constexpr (kInfinities) {
      // An infinite number has no rest, and is left out where it would be multiplied with the other factor's rest,
      // whose sign may be the other one.
      uint32_t a_finite[4], a_low[4], b_finite[2], b_low[2];
      LeaveOutInfinities(a, a_rest, a_finite, a_low);
      LeaveOutInfinities(b, b_rest, b_finite, b_low);
      ptx::MultiplyTf32(sum, a_low, b_finite);
      ptx::MultiplyTf32(sum, a_finite, b_low);
    } else {
      ptx::MultiplyTf32(sum, a_rest, b);
      ptx::MultiplyTf32(sum, a, b_rest);
    }
    ptx::MultiplyTf32(sum, a, b);
  }

  template <int kWords>
  static __device__ __forceinline__ void LeaveOutInfinities(const uint32_t (&words)[kWords],
                                                            const uint32_t (&rest)[kWords], uint32_t (&finite)[kWords],
                                                            uint32_t (&low)[kWords]) {
#pragma unroll
    for (int k = 0; k < kWords; ++k) {
      const bool is_infinite = fabsf(FloatOf(words[k])) == INFINITY;
      finite[k] = is_infinite ? 0 : words[k];
      low[k] = is_infinite ? 0 : rest[k];
    }
  }

  // Fragments 0 .. 3 are the upper and lower rows of the first half of the step's depth, then of the second half.
  static __device__ __forceinline__ void ReadA(const Element* a, int first, uint32_t (&fragments)[kRowTiles][4]) {
    const int lane = threadIdx.x % 32;
    if constexpr (kIsTf32 && !kARowMajor) {
      const Element* words = a + (first + lane % 4) * kAStride + WarpRow() + lane / 4;
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          fragments[i][e] = WordOfA(BitsOf(words[4 * (e / 2) * kAStride + 16 * i + 8 * (e % 2)]));
        }
      }
    } else {
      const int lower = lane / 8 % 2, second = lane / 16;
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        const int row = WarpRow() + 16 * i + 8 * lower;
        if constexpr (kARowMajor) {
          ptx::LoadMatrices(fragments[i], a + (row + lane % 8) * kAStride + first + kVector * second);
#pragma unroll
          for (int e = 0; e < 4; ++e) fragments[i][e] = WordOfA(fragments[i][e]);
        } else {
          ptx::LoadMatricesTransposed(fragments[i], a + (first + 8 * second + lane % 8) * kAStride + row);
        }
      }
    }
  }

  // Fragments 0 and 1 of a column are the halves of the step's depth.
  template <int kCount>
  static __device__ __forceinline__ void ReadB(const Element* b, int first, int tile,
                                               uint32_t (&fragments)[kCount][2]) {
    const int lane = threadIdx.x % 32;
    if constexpr (kIsTf32 && kBRowMajor) {
      const Element* words = b + (first + lane % 4) * kBStride + WarpColumn() + 8 * tile + lane / 4;
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
#pragma unroll
        for (int part = 0; part < 2; ++part) {
          fragments[e][part] = Rounded(BitsOf(words[4 * part * kBStride + 8 * e]));
        }
      }
    } else {
      static_assert(kCount == 2, "what ldmatrix delivers");
      uint32_t words[4];
      const int part = lane / 8 % 2, column = WarpColumn() + 8 * tile + lane / 16 * 8;
      if constexpr (kBRowMajor) {
        ptx::LoadMatricesTransposed(words, b + (first + 8 * part + lane % 8) * kBStride + column);
      } else {
        ptx::LoadMatrices(words, b + (column + lane % 8) * kBStride + first + kVector * part);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) fragments[e / 2][e % 2] = Rounded(words[e]);
    }
  }

  static __device__ __forceinline__ uint32_t WordOfA(uint32_t word) { return kARounded ? word : Rounded(word); }
  static __device__ __forceinline__ uint32_t Rounded(uint32_t word) {
    if constexpr (kMath == TileMath::kTf32) {
      return ptx::RoundToTf32(FloatOf(word));
    } else {
      return word;
    }
  }

  float sums_[kRowTiles][kColumnTiles][4];
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_TENSOR_CUH_
