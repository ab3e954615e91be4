// Bilinear sampling of one map and the three border rules, once, for host and device.
//
// A sample is separable: each axis contributes two neighbours with a weight and a slope (the weight's derivative with
// respect to the position). The border rules differ per axis only, so they are written per axis.
#ifndef DCNV2_CC_LIB_BILINEAR_H_
#define DCNV2_CC_LIB_BILINEAR_H_

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define DCNV2_INLINE __host__ __device__ __forceinline__
#else
// Always inlined: this header is compiled into files with different instruction sets, and an out-of-line copy from one
// of them must never be linked into the others.
#define DCNV2_INLINE inline __attribute__((always_inline))
#endif

namespace dcnv2 {

DCNV2_INLINE float Floor(float value) { return floorf(value); }
DCNV2_INLINE double Floor(double value) { return floor(value); }

// The two neighbours of a position on one axis, always inside [0, size).
template <typename T>
struct AxisSample {
  int32_t low, high;
  T low_weight, high_weight;
  T low_slope, high_slope;
  bool inside;
};

// Zeros outside the map. A position <= -1 or >= size has no value and no gradient (the original authors' rule: a
// zero offset next to a padding of one lands exactly on -1). A neighbour outside the map counts zero; its index is that
// of the other neighbour, so that reading it is harmless.
template <typename T>
DCNV2_INLINE AxisSample<T> ZeroOutsideAxis(T position, int32_t size) {
  AxisSample<T> axis;
  axis.inside = (position > T(-1)) & (position < T(size));
  const T safe = axis.inside ? position : T(0);
  const T floored = Floor(safe);
  const T fraction = safe - floored;
  const int32_t low = static_cast<int32_t>(floored);
  const bool low_inside = low >= 0;
  const bool high_inside = low < size - 1;
  axis.low = low_inside ? low : 0;
  axis.high = high_inside ? low + 1 : size - 1;
  axis.low_weight = low_inside ? T(1) - fraction : T(0);
  axis.high_weight = high_inside ? fraction : T(0);
  axis.low_slope = low_inside ? T(-1) : T(0);
  axis.high_slope = high_inside ? T(1) : T(0);
  return axis;
}

// The map's edge extends to `margin` around it, nothing beyond. Where the position is clamped the value is constant.
template <typename T>
DCNV2_INLINE AxisSample<T> ClampedAxis(T position, int32_t size, T first, T last) {
  AxisSample<T> axis;
  axis.inside = (position >= first) & (position <= last);
  const T end = T(size - 1);
  const bool interior = (position >= T(0)) & (position < end);
  const T clamped = interior ? position : ((position >= end) & axis.inside ? end : T(0));
  const T floored = Floor(clamped);
  const T fraction = clamped - floored;
  axis.low = static_cast<int32_t>(floored);
  axis.high = interior ? axis.low + 1 : axis.low;
  axis.low_weight = T(1) - fraction;
  axis.high_weight = fraction;
  axis.low_slope = interior ? T(-1) : T(0);
  axis.high_slope = interior ? T(1) : T(0);
  return axis;
}

// RoIAlign: the edge extends by one pixel before the first and after the last sample.
template <typename T>
DCNV2_INLINE AxisSample<T> RoiAlignAxis(T position, int32_t size) {
  return ClampedAxis(position, size, T(-1), T(size));
}

// MXNet's DeformablePSROIPooling: the edge extends by half a pixel; its neighbours are floor and ceil, which are one
// and the same at an integer position, so the slope there is zero.
template <typename T>
DCNV2_INLINE AxisSample<T> MxnetAxis(T position, int32_t size) {
  AxisSample<T> axis = ClampedAxis(position, size, T(-0.5), T(size) - T(0.5));
  const bool on_pixel = axis.high_weight == T(0);
  axis.low_slope = on_pixel ? T(0) : axis.low_slope;
  axis.high_slope = on_pixel ? T(0) : axis.high_slope;
  return axis;
}

// Four corners in the order top-left, top-right, bottom-left, bottom-right, as pixel indices row * width + column.
// value = sum_i weight(i) * x[corner[i]];  d value / d row = sum_i row_slope(i) * x[corner[i]];  column alike.
template <typename T>
struct BilinearSample {
  AxisSample<T> row, column;
  int32_t corner[4];
  // 1 inside the map, 0 outside, NaN where a coordinate is NaN: a factor of every weight and slope.
  T validity;

  DCNV2_INLINE T weight(int i) const { return RowWeight(i) * ColumnWeight(i); }
  DCNV2_INLINE T row_slope(int i) const { return (i < 2 ? row.low_slope : row.high_slope) * ColumnWeight(i); }
  DCNV2_INLINE T column_slope(int i) const {
    return RowWeight(i) * (i % 2 == 0 ? column.low_slope : column.high_slope);
  }

 private:
  DCNV2_INLINE T RowWeight(int i) const { return i < 2 ? row.low_weight : row.high_weight; }
  DCNV2_INLINE T ColumnWeight(int i) const { return i % 2 == 0 ? column.low_weight : column.high_weight; }
};

// Combines two axes that were sampled at `row_position` and `column_position` of a map `width` pixels wide.
template <typename T>
DCNV2_INLINE BilinearSample<T> CombineAxes(const AxisSample<T>& row, const AxisSample<T>& column, T row_position,
                                           T column_position, int32_t width) {
  BilinearSample<T> sample;
  sample.row = row;
  sample.column = column;
  sample.corner[0] = row.low * width + column.low;
  sample.corner[1] = row.low * width + column.high;
  sample.corner[2] = row.high * width + column.low;
  sample.corner[3] = row.high * width + column.high;
  const bool is_nan = (row_position != row_position) | (column_position != column_position);
  const T outside = is_nan ? static_cast<T>(NAN) : T(0);
  sample.validity = row.inside & column.inside ? T(1) : outside;
  return sample;
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_BILINEAR_H_
