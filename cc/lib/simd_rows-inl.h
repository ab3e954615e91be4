// Sums over rows of a map, of which RoI pooling is made, behind simd_kernels.h.
#ifndef DCNV2_CC_LIB_SIMD_ROWS_INL_H_
#define DCNV2_CC_LIB_SIMD_ROWS_INL_H_

#include "cc/lib/simd_kernels.h"
#include "cc/lib/simd_vector-inl.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {
namespace {

template <int kVectors, typename S>
DCNV2_INLINE void AddWeightedRowsBlock(const S* rows, int64_t stride, const int32_t* index, const Compute<S>* weight,
                                       int64_t count, Compute<S>* out) {
  using V = Simd<Compute<S>>;
  typename V::Vector sum[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) sum[v] = Load(out + v * V::kLanes);
  for (int64_t j = 0; j < count; ++j) {
    const S* row = rows + index[j] * stride;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] += weight[j] * Load(row + v * V::kLanes);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) Store(out + v * V::kLanes, sum[v]);
}

template <typename S>
void AddWeightedRows(const S* rows, int64_t stride, const int32_t* index, const Compute<S>* weight, int64_t count,
                     int64_t channels, Compute<S>* out) {
  constexpr int64_t kLanes = Simd<Compute<S>>::kLanes;
  int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
    AddWeightedRowsBlock<4>(rows + c, stride, index, weight, count, out + c);
  }
  for (; c + kLanes <= channels; c += kLanes) {
    AddWeightedRowsBlock<1>(rows + c, stride, index, weight, count, out + c);
  }
  for (; c < channels; ++c) {
    for (int64_t j = 0; j < count; ++j) out[c] += weight[j] * Widen(rows[index[j] * stride + c]);
  }
}

template <typename T>
void AddToRows(const T* values, const int32_t* index, const T* weight, int64_t count, int64_t channels, T* rows,
               int64_t stride) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  for (int64_t j = 0; j < count; ++j) {
    T* row = rows + index[j] * stride;
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) Store(row + c, Load(row + c) + weight[j] * Load(values + c));
    for (; c < channels; ++c) row[c] += weight[j] * values[c];
  }
}

template <typename S>
void DotRows(const Compute<S>* values, const S* rows, int64_t stride, const int32_t* index, int64_t count,
             int64_t channels, Compute<S>* dot) {
  using T = Compute<S>;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  for (int64_t j = 0; j < count; ++j) {
    const S* row = rows + index[j] * stride;
    typename Simd<T>::Vector sum = {};
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) sum += Load(values + c) * Load(row + c);
    T total = SumLanes<T>(sum);
    for (; c < channels; ++c) total += values[c] * Widen(row[c]);
    dot[j] = total;
  }
}

}  // namespace
}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_SIMD_ROWS_INL_H_
