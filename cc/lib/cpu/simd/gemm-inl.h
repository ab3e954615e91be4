// The matrix product behind kernels.h.
#ifndef DCNV2_CC_LIB_CPU_SIMD_GEMM_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_GEMM_INL_H_

#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/cpu/simd/vector-inl.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {
namespace {

constexpr int kGemmRows = DCNV2_GEMM_ROWS;
constexpr int kGemmVectors = 2;

// One register block: kRows x (kVectors * lanes) of C, of which `columns` columns exist.
template <typename T, int kRows, int kVectors, bool kTransposedA>
void MicroKernel(int64_t depth, const T* a, int64_t a_stride, const T* b, T* c, int64_t c_stride, int64_t columns,
                 bool accumulate) {
  using S = Simd<T>;
  constexpr int64_t kPanel = kGemmVectors * S::kLanes;
  typename S::Vector sum[kRows][kVectors] = {};
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    typename S::Vector b_row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) b_row[v] = *reinterpret_cast<const typename S::Vector*>(b + v * S::kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const T a_value = a[kTransposedA ? row : row * kTileStride<T>];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[row][v] += a_value * b_row[v];
    }
    a += kTransposedA ? a_stride : 1;
    b += kPanel;
  }
  if (columns == kVectors * S::kLanes) {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        T* out = c + row * c_stride + v * S::kLanes;
        S::Store(out, accumulate ? S::Load(out) + sum[row][v] : sum[row][v]);
      }
    }
    return;
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
    T staged[kVectors * S::kLanes];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) S::Store(staged + v * S::kLanes, sum[row][v]);
    T* out = c + row * c_stride;
    for (int64_t j = 0; j < columns; ++j) out[j] = accumulate ? out[j] + staged[j] : staged[j];
  }
}

template <typename T>
using MicroKernelPointer = void (*)(int64_t, const T*, int64_t, const T*, T*, int64_t, int64_t, bool);

// The micro-kernel for a number of rows that is known only at run time.
template <typename T, int kVectors, bool kTransposedA, int kRows = kGemmRows>
DCNV2_INLINE MicroKernelPointer<T> SelectMicroKernel(int64_t rows) {
  if constexpr (kRows == 1) {
    return MicroKernel<T, 1, kVectors, kTransposedA>;
  } else {
    if (rows == kRows) return MicroKernel<T, kRows, kVectors, kTransposedA>;
    return SelectMicroKernel<T, kVectors, kTransposedA, kRows - 1>(rows);
  }
}

// A is a tile of kTileStride or, transposed, a matrix [depth, rows] of any stride.
template <typename T, bool kTransposedA>
void Gemm(const GemmArguments<T>& g) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  constexpr int64_t kPanel = kGemmVectors * kLanes;
  const int64_t full_rows = g.rows / kGemmRows * kGemmRows;
  for (int64_t column = 0; column < g.columns; column += kPanel) {
    const int64_t columns = g.columns - column < kPanel ? g.columns - column : kPanel;
    const bool narrow = columns <= kLanes;
    const auto block =
        narrow ? MicroKernel<T, kGemmRows, 1, kTransposedA> : MicroKernel<T, kGemmRows, kGemmVectors, kTransposedA>;
    const T* b = g.packed_b + column * g.depth;
    const int64_t a_step = kTransposedA ? 1 : kTileStride<T>;
    for (int64_t row = 0; row < full_rows; row += kGemmRows) {
      block(g.depth, g.a + row * a_step, g.a_stride, b, g.c + row * g.c_stride + column, g.c_stride, columns,
            g.accumulate);
    }
    if (full_rows < g.rows) {
      const int64_t rest = g.rows - full_rows;
      const auto rest_block =
          narrow ? SelectMicroKernel<T, 1, kTransposedA>(rest) : SelectMicroKernel<T, kGemmVectors, kTransposedA>(rest);
      rest_block(g.depth, g.a + full_rows * a_step, g.a_stride, b, g.c + full_rows * g.c_stride + column, g.c_stride,
                 columns, g.accumulate);
    }
  }
}

}  // namespace
}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_GEMM_INL_H_
