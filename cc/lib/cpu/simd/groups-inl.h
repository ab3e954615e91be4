// Products of groups that are narrower than a vector, behind kernels.h. A vector holds channels of several groups:
// every channel of a group meets each weight of its outputs by a permutation of the lanes within the group.
#ifndef DCNV2_CC_LIB_CPU_SIMD_GROUPS_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_GROUPS_INL_H_

#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/cpu/simd/vector-inl.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {
namespace {

// The `channel`-th of every kWidth lanes, in all of them.
template <typename T, int kWidth>
DCNV2_INLINE typename Simd<T>::Vector SpreadInGroups(typename Simd<T>::Vector v, int channel) {
  if constexpr (kWidth == 1) return v;
  typename Simd<T>::IntegerVector source;
#pragma GCC unroll 16
  for (int lane = 0; lane < Simd<T>::kLanes; ++lane) source[lane] = lane / kWidth * kWidth + channel;
#if defined(__clang__)
  typename Simd<T>::Vector result;
#pragma GCC unroll 16
  for (int lane = 0; lane < Simd<T>::kLanes; ++lane) result[lane] = v[source[lane]];
  return result;
#else
  return __builtin_shuffle(v, source);
#endif
}

// Stores the `count` lanes that exist, or adds them to what is there.
template <typename T>
DCNV2_INLINE void StoreLanes(T* out, typename Simd<T>::Vector v, int64_t count, bool accumulate) {
  using V = Simd<T>;
  if (count >= V::kLanes) {
    V::Store(out, accumulate ? V::Load(out) + v : v);
    return;
  }
  for (int64_t lane = 0; lane < count; ++lane) out[lane] = accumulate ? out[lane] + v[lane] : v[lane];
}

// kRows rows of one vector of channels, which `a`, `b` and `c` point to; `channels` of its lanes exist.
template <typename T, int kWidth, int kRows>
DCNV2_INLINE void GroupBlock(const GroupArguments<T>& g, const T* a, const T* b, T* c, int64_t channels) {
  using V = Simd<T>;
  typename V::Vector sum[kRows] = {};
  for (int64_t tap = 0; tap < g.taps; ++tap, a += g.b_stride) {
    typename V::Vector values[kRows];
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) values[row] = V::Load(a + row * g.a_stride);
#pragma GCC unroll 8
    for (int i = 0; i < kWidth; ++i, b += g.b_stride) {
      const typename V::Vector weights = V::Load(b);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) sum[row] += weights * SpreadInGroups<T, kWidth>(values[row], i);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) StoreLanes<T>(c + row * g.c_stride, sum[row], channels, g.accumulate);
}

template <typename T, int kWidth>
void GroupProductOfWidth(const GroupArguments<T>& arguments) {
  const GroupArguments<T> g = arguments;
  constexpr int kRows = DCNV2_VECTOR_BYTES == 64 ? 8 : 4;
  // Channel by channel, so that the weights stay in the first-level cache.
  for (int64_t channel = 0; channel < g.channels; channel += Simd<T>::kLanes) {
    const T* a = g.a + channel;
    T* c = g.c + channel;
    int64_t row = 0;
    for (; row + kRows <= g.rows; row += kRows, a += kRows * g.a_stride, c += kRows * g.c_stride) {
      GroupBlock<T, kWidth, kRows>(g, a, g.b + channel, c, g.channels - channel);
    }
    for (; row < g.rows; ++row, a += g.a_stride, c += g.c_stride) {
      GroupBlock<T, kWidth, 1>(g, a, g.b + channel, c, g.channels - channel);
    }
  }
}

template <typename T, int kWidth>
void GroupProductTransposedOfWidth(const GroupArguments<T>& g) {
  using V = Simd<T>;
  for (int64_t channel = 0; channel < g.channels; channel += V::kLanes) {
    typename V::Vector sum[kWidth] = {};
    const T* value = g.a + channel;
    const T* factor = g.b + channel;
    for (int64_t row = 0; row < g.rows; ++row, value += g.a_stride, factor += g.b_stride) {
      const typename V::Vector values = V::Load(value), factors = V::Load(factor);
#pragma GCC unroll 8
      for (int i = 0; i < kWidth; ++i) sum[i] += factors * SpreadInGroups<T, kWidth>(values, i);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kWidth; ++i) {
      StoreLanes<T>(g.c + i * g.c_stride + channel, sum[i], g.channels - channel, g.accumulate);
    }
  }
}

// The product for a width that is known only at run time: a power of two below the number of lanes.
template <typename T, bool kTransposed, int kWidth = 1>
void GroupProduct(const GroupArguments<T>& g) {
  if constexpr (kWidth < Simd<T>::kLanes) {
    if (g.width != kWidth) return GroupProduct<T, kTransposed, 2 * kWidth>(g);
    if constexpr (kTransposed) {
      GroupProductTransposedOfWidth<T, kWidth>(g);
    } else {
      GroupProductOfWidth<T, kWidth>(g);
    }
  }
}

}  // namespace
}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_GROUPS_INL_H_
