// Sums over rows of a map, of which RoI pooling is made, behind kernels.h.
#ifndef DCNV2_CC_LIB_CPU_SIMD_ROWS_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_ROWS_INL_H_

#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/cpu/simd/vector-inl.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {
namespace {

template <int kVectors, typename S>
DCNV2_INLINE void CombineRowsBlock(const S* rows, int64_t stride, const int32_t* index, const Compute<S>* weight,
                                   int64_t count, Compute<S> scale, S* out) {
  using V = Simd<Compute<S>>;
  typename V::Vector sum[kVectors] = {};
  for (int64_t j = 0; j < count; ++j) {
    const S* row = rows + index[j] * stride;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] += weight[j] * Load(row + v * V::kLanes);
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Store(out + v * V::kLanes, scale * sum[v]);
}

template <typename S>
void CombineRows(const S* rows, int64_t stride, const int32_t* index, const Compute<S>* weight, int64_t count,
                 int64_t channels, Compute<S> scale, S* out) {
  using T = Compute<S>;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  int64_t c = 0;
  for (; c + 8 * kLanes <= channels; c += 8 * kLanes) {
    CombineRowsBlock<8>(rows + c, stride, index, weight, count, scale, out + c);
  }
  for (; c + kLanes <= channels; c += kLanes) {
    CombineRowsBlock<1>(rows + c, stride, index, weight, count, scale, out + c);
  }
  for (; c < channels; ++c) {
    T sum = 0;
    for (int64_t j = 0; j < count; ++j) sum += weight[j] * Widen(rows[index[j] * stride + c]);
    out[c] = Narrow<S>(scale * sum);
  }
}

template <int kVectors, typename S>
DCNV2_INLINE void AddToRowsBlock(const S* values, const int32_t* index, const Compute<S>* weight, int64_t count,
                                 Compute<S>* rows, int64_t stride) {
  using V = Simd<Compute<S>>;
  typename V::Vector value[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) value[v] = Load(values + v * V::kLanes);
  for (int64_t j = 0; j < count; ++j) {
    Compute<S>* row = rows + index[j] * stride;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      Store(row + v * V::kLanes, Load(row + v * V::kLanes) + weight[j] * value[v]);
    }
  }
}

template <typename S>
void AddToRows(const S* values, const int32_t* index, const Compute<S>* weight, int64_t count, int64_t channels,
               Compute<S>* rows, int64_t stride) {
  constexpr int64_t kLanes = Simd<Compute<S>>::kLanes;
  int64_t c = 0;
  for (; c + 8 * kLanes <= channels; c += 8 * kLanes) {
    AddToRowsBlock<8>(values + c, index, weight, count, rows + c, stride);
  }
  for (; c + kLanes <= channels; c += kLanes) {
    AddToRowsBlock<1>(values + c, index, weight, count, rows + c, stride);
  }
  for (; c < channels; ++c) {
    for (int64_t j = 0; j < count; ++j) rows[index[j] * stride + c] += weight[j] * Widen(values[c]);
  }
}

template <typename S>
void DotRows(const S* values, const S* rows, int64_t stride, const int32_t* index, int64_t count, int64_t channels,
             Compute<S>* dot) {
  using T = Compute<S>;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  for (int64_t j = 0; j < count; j += 4) {
    // Rows beyond the last one repeat it.
    const S* row[4];
    for (int64_t i = 0; i < 4; ++i) row[i] = rows + index[j + i < count ? j + i : count - 1] * stride;
    typename Simd<T>::Vector sum[4] = {};
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const typename Simd<T>::Vector value = Load(values + c);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] += value * Load(row[i] + c);
    }
    T total[4] = {};
    AddLaneSums<T>(sum, total);
    for (; c < channels; ++c) {
      for (int i = 0; i < 4; ++i) total[i] += Widen(values[c]) * Widen(row[i][c]);
    }
    for (int64_t i = 0; i < 4 && j + i < count; ++i) dot[j + i] = total[i];
  }
}

template <typename S>
void NarrowAll(const Compute<S>* values, int64_t size, S* out) {
  constexpr int64_t kLanes = Simd<Compute<S>>::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) Store(out + i, Load(values + i));
  for (; i < size; ++i) out[i] = Narrow<S>(values[i]);
}

}  // namespace
}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_ROWS_INL_H_
