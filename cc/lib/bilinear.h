// Bilinear sampling of one map and the three border rules, once, for host and device.
//
// A sample is separable: each axis contributes two neighbours with a weight and a slope (the weight's derivative with
// respect to the position). The border rules differ per axis only, so they are written per axis.
#ifndef DCNV2_CC_LIB_BILINEAR_H_
#define DCNV2_CC_LIB_BILINEAR_H_

#include <cstdint>

#include "cc/lib/host_device.h"

namespace dcnv2 {

// The rules below are written once for a single position and for a vector of positions: T is float or double here, and
// the vectorised loops specialise Lanes for their vector types. Selections are `mask ? a : b` on values that are
// computed either way, which both understand.
template <typename T>
struct Lanes {
  using Index = int32_t;
  static DCNV2_INLINE Index Truncate(T value) { return static_cast<Index>(value); }
  static DCNV2_INLINE T ToValue(Index index) { return static_cast<T>(index); }
  static DCNV2_INLINE T Broadcast(double value) { return static_cast<T>(value); }
};

// The two neighbours of a position on one axis, always inside [0, size).
template <typename T>
struct AxisSample {
  typename Lanes<T>::Index low, high;
  T low_weight, high_weight;
  T low_slope, high_slope;
  T validity;  // 1 inside the map, 0 outside, NaN where the position is NaN: a factor of every weight and slope
};

template <typename T, typename Mask>
DCNV2_INLINE T Validity(T position, Mask inside) {
  // NaN - NaN is NaN, while an infinite position is plainly outside.
  const T outside = position == position ? Lanes<T>::Broadcast(0) : position;
  return inside ? Lanes<T>::Broadcast(1) : outside;
}

// Zeros outside the map. A position <= -1 or >= size has no value and no gradient (the original authors' rule: a
// zero offset next to a padding of one lands exactly on -1). A neighbour outside the map counts zero; its index is that
// of the other neighbour, so that reading it is harmless.
template <typename T>
DCNV2_INLINE AxisSample<T> ZeroOutsideAxis(T position, int32_t size) {
  using L = Lanes<T>;
  const T zero = L::Broadcast(0);
  const T one = L::Broadcast(1);
  const auto inside = (position > L::Broadcast(-1)) & (position < L::Broadcast(size));
  const T safe = inside ? position : zero;
  // Truncation is the floor of everything that is not in (-1, 0).
  const typename L::Index truncated = L::Truncate(safe);
  const T floored = safe < zero ? -one : L::ToValue(truncated);
  const T fraction = safe - floored;
  const auto low_inside = floored >= zero;
  const auto high_inside = floored < L::Broadcast(size - 1);
  AxisSample<T> axis;
  axis.low = truncated;
  axis.high = L::Truncate(high_inside ? floored + one : floored);
  axis.low_weight = low_inside ? one - fraction : zero;
  axis.high_weight = high_inside ? fraction : zero;
  axis.low_slope = low_inside ? -one : zero;
  axis.high_slope = high_inside ? one : zero;
  axis.validity = Validity(position, inside);
  return axis;
}

// The map's edge extends around it as far as [first, last], nothing beyond. Where the position is clamped the value is
// constant.
template <typename T>
DCNV2_INLINE AxisSample<T> ClampedAxis(T position, int32_t size, double first, double last) {
  using L = Lanes<T>;
  const T zero = L::Broadcast(0);
  const T one = L::Broadcast(1);
  const T end = L::Broadcast(size - 1);
  const auto inside = (position >= L::Broadcast(first)) & (position <= L::Broadcast(last));
  const auto interior = (position >= zero) & (position < end);
  const auto at_end = inside & (position >= end);
  const T at_edge = at_end ? end : zero;
  const T clamped = interior ? position : at_edge;
  const T floored = L::ToValue(L::Truncate(clamped));
  AxisSample<T> axis;
  axis.low = L::Truncate(floored);
  axis.high = L::Truncate(interior ? floored + one : floored);
  axis.high_weight = clamped - floored;
  axis.low_weight = one - axis.high_weight;
  axis.low_slope = interior ? -one : zero;
  axis.high_slope = interior ? one : zero;
  axis.validity = Validity(position, inside);
  return axis;
}

// RoIAlign: the edge extends by one pixel before the first and after the last pixel.
template <typename T>
DCNV2_INLINE AxisSample<T> RoiAlignAxis(T position, int32_t size) {
  return ClampedAxis(position, size, -1.0, size);
}

// MXNet's DeformablePSROIPooling: the edge extends by half a pixel; its neighbours are floor and ceil, which are one
// and the same at an integer position, so the slope there is zero.
template <typename T>
DCNV2_INLINE AxisSample<T> MxnetAxis(T position, int32_t size) {
  AxisSample<T> axis = ClampedAxis(position, size, -0.5, size - 0.5);
  const T zero = Lanes<T>::Broadcast(0);
  const auto on_pixel = axis.high_weight == zero;
  axis.low_slope = on_pixel ? zero : axis.low_slope;
  axis.high_slope = on_pixel ? zero : axis.high_slope;
  return axis;
}

// Four corners in the order top-left, top-right, bottom-left, bottom-right, as pixel indices row * width + column.
// value = sum_i weight(i) * x[corner(i)];  d value / d row = sum_i row_slope(i) * x[corner(i)];  column alike; each
// times validity().
template <typename T>
struct BilinearSample {
  AxisSample<T> row, column;

  DCNV2_INLINE typename Lanes<T>::Index corner(int i, int32_t width) const {
    return (i < 2 ? row.low : row.high) * width + (i % 2 == 0 ? column.low : column.high);
  }
  DCNV2_INLINE T weight(int i) const { return RowWeight(i) * ColumnWeight(i); }
  DCNV2_INLINE T row_slope(int i) const { return (i < 2 ? row.low_slope : row.high_slope) * ColumnWeight(i); }
  DCNV2_INLINE T column_slope(int i) const {
    return RowWeight(i) * (i % 2 == 0 ? column.low_slope : column.high_slope);
  }
  DCNV2_INLINE T validity() const { return row.validity * column.validity; }

 private:
  DCNV2_INLINE T RowWeight(int i) const { return i < 2 ? row.low_weight : row.high_weight; }
  DCNV2_INLINE T ColumnWeight(int i) const { return i % 2 == 0 ? column.low_weight : column.high_weight; }
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_BILINEAR_H_
