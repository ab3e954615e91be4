// Tile products by ordinary multiply-adds, for float where TF32 is not allowed and for double.
//
// Lanes of a warp form a grid of 4 x 8, and each lane multiplies register tiles of up to 8 x 8: 16 reads of four
// elements feed 256 multiply-adds, so the arithmetic units are the bound.
#ifndef DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_SCALAR_CUH_
#define DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_SCALAR_CUH_

#include "cc/lib/gpu/product/tile_product_layout.cuh"

namespace dcnv2 {

template <typename Element, int kRows, int kColumns, int kDepth, int kThreads, TileLayout kALayout, TileLayout kBLayout>
class ScalarTileProduct {
  static constexpr bool kARowMajor = kALayout == TileLayout::kRowMajor;
  static constexpr bool kBRowMajor = kBLayout == TileLayout::kRowMajor;
  static constexpr int kLaneRows = 4, kLaneColumns = 8;
  static constexpr int kStepDepth = 4;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kRowWarps = WarpsAlongRows(kRows, kColumns, kWarps, 4 * kLaneRows, 4 * kLaneColumns);
  static_assert(kRowWarps > 0, "the warps cannot share this tile evenly");
  static_assert(kDepth % kStepDepth == 0, "whole steps");
  static constexpr int kColumnWarps = kWarps / kRowWarps;
  static constexpr int kRowQuads = kRows / kRowWarps / (4 * kLaneRows);              // of a lane
  static constexpr int kColumnQuads = kColumns / kColumnWarps / (4 * kLaneColumns);  // of a lane
  using Quad = TileQuad<Element>;

 public:
  // The padding keeps rows aligned to 16 bytes, and puts the equal columns of successive rows into different banks.
  static constexpr int kAStride = (kARowMajor ? kDepth : kRows) + 4;
  static constexpr int kBStride = (kBRowMajor ? kColumns : kDepth) + 4;
  static constexpr int kABytes = kAStride * (kARowMajor ? kRows : kDepth) * sizeof(Element);
  static constexpr int kBBytes = kBStride * (kBRowMajor ? kDepth : kColumns) * sizeof(Element);
  static constexpr int kSteps = kDepth / kStepDepth;
  static constexpr int kRun = kBRowMajor ? 4 : 1;

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int i = 0; i < 4 * kRowQuads; ++i) {
#pragma unroll
      for (int j = 0; j < 4 * kColumnQuads; ++j) sums_[i][j] = Element(0);
    }
  }

  __device__ __forceinline__ void Accumulate(const Element* a, const Element* b) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) AccumulateStep(a, b, step);
  }

  __device__ __forceinline__ void AccumulateStep(const Element* a, const Element* b, int step) {
    a += step * kStepDepth * (kARowMajor ? 1 : kAStride);
    b += step * kStepDepth * (kBRowMajor ? kBStride : 1);
    Quad a_quads[kARowMajor ? 4 * kRowQuads : 1];     // of one row, along the depth
    Quad b_quads[kBRowMajor ? 1 : 4 * kColumnQuads];  // of one column, along the depth
    if constexpr (kARowMajor) {
#pragma unroll
      for (int i = 0; i < 4 * kRowQuads; ++i) a_quads[i] = Read(a + Row(i) * kAStride);
    }
    if constexpr (!kBRowMajor) {
#pragma unroll
      for (int j = 0; j < 4 * kColumnQuads; ++j) b_quads[j] = Read(b + Column(j) * kBStride);
    }
#pragma unroll
    for (int k = 0; k < kStepDepth; ++k) {
      Element a_values[4 * kRowQuads], b_values[4 * kColumnQuads];
      if constexpr (kARowMajor) {
#pragma unroll
        for (int i = 0; i < 4 * kRowQuads; ++i) a_values[i] = a_quads[i].values[k];
      } else {
#pragma unroll
        for (int i = 0; i < 4 * kRowQuads; i += 4) Unpack(Read(a + k * kAStride + Row(i)), a_values + i);
      }
      if constexpr (kBRowMajor) {
#pragma unroll
        for (int j = 0; j < 4 * kColumnQuads; j += 4) Unpack(Read(b + k * kBStride + Column(j)), b_values + j);
      } else {
#pragma unroll
        for (int j = 0; j < 4 * kColumnQuads; ++j) b_values[j] = b_quads[j].values[k];
      }
#pragma unroll
      for (int i = 0; i < 4 * kRowQuads; ++i) {
#pragma unroll
        for (int j = 0; j < 4 * kColumnQuads; ++j) sums_[i][j] += a_values[i] * b_values[j];
      }
    }
  }

  template <typename Visit>
  __device__ __forceinline__ void ForEach(Visit visit) const {
#pragma unroll
    for (int i = 0; i < 4 * kRowQuads; ++i) {
#pragma unroll
      for (int j = 0; j < 4 * kColumnQuads; j += kRun) {
        Element values[kRun];
#pragma unroll
        for (int e = 0; e < kRun; ++e) values[e] = sums_[i][j + e];
        visit(Row(i), Column(j), values);
      }
    }
  }

 private:
  static __device__ __forceinline__ Quad Read(const Element* shared) { return *reinterpret_cast<const Quad*>(shared); }
  static __device__ __forceinline__ void Unpack(const Quad& quad, Element* values) {
#pragma unroll
    for (int e = 0; e < 4; ++e) values[e] = quad.values[e];
  }

  // Four neighbouring rows per lane, then those of the other lanes.
  static __device__ __forceinline__ int Row(int i) {
    const int warp = threadIdx.x / 32 / kColumnWarps, lane = threadIdx.x % 32 / kLaneColumns;
    return warp * (kRows / kRowWarps) + (i / 4 * kLaneRows + lane) * 4 + i % 4;
  }
  // Columns alike where they are read along a row. Where each is read along the depth, neighbouring lanes take
  // neighbouring columns, which lie in different banks.
  static __device__ __forceinline__ int Column(int j) {
    const int warp = threadIdx.x / 32 % kColumnWarps, lane = threadIdx.x % kLaneColumns;
    return warp * (kColumns / kColumnWarps) +
           (kBRowMajor ? (j / 4 * kLaneColumns + lane) * 4 + j % 4 : j * kLaneColumns + lane);
  }

  Element sums_[4 * kRowQuads][4 * kColumnQuads];
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_SCALAR_CUH_
