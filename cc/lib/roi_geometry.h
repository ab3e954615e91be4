// Where the samples of a RoI's bins lie, in the two conventions. Host and device.
#ifndef DCNV2_CC_LIB_ROI_GEOMETRY_H_
#define DCNV2_CC_LIB_ROI_GEOMETRY_H_

#include <cmath>
#include <cstdint>

#include "cc/lib/bilinear.h"

namespace dcnv2 {

enum class RoiConvention {
  kAligned,  // RoIAlign with aligned=True
  kMxnet,    // the original DeformablePSROIPooling with group size one
};

struct RoiLevel {
  int32_t height, width;
  double spatial_scale;  // feature pixels per image pixel
};

struct DeformRoiPoolConfig {
  int64_t pooled_height, pooled_width;
  int64_t sampling_ratio;  // samples per bin and axis; 0: as many as the bin has feature pixels
  RoiConvention convention;
  double gamma;

  DCNV2_INLINE int64_t bins() const { return pooled_height * pooled_width; }
};

DCNV2_INLINE float RoundHalfAwayFromZero(float value) { return roundf(value); }
DCNV2_INLINE double RoundHalfAwayFromZero(double value) { return round(value); }

DCNV2_INLINE float Ceil(float value) { return ceilf(value); }
DCNV2_INLINE double Ceil(double value) { return ceil(value); }

// As many samples a bin may have along an axis. Only bins far longer than any map would have more.
constexpr int64_t kMostRoiSamples = (int64_t{1} << 31) - 1;

// One axis of a RoI in feature pixels.
template <typename T>
struct RoiAxis {
  T start, size, bin_size;
  T step;                 // between samples
  int64_t total_samples;  // per bin, over which the mean is taken
  int64_t samples;        // of these the ones that may lie on the map, all or a run that starts at FirstSample

  // The first of the `samples` of a bin that is displaced by `shift`. What comes before and after them is off the map.
  DCNV2_INLINE int64_t FirstSample(int64_t bin, T shift) const {
    if (samples == total_samples) return 0;
    // One early, as positions are rounded. Not a number for an infinite box.
    const T first = Ceil((T(-1) - shift - start - T(bin) * bin_size) / step - T(0.5)) - T(1);
    if (!(first > T(0))) return 0;
    const int64_t last = total_samples - samples;
    return first < T(last) ? static_cast<int64_t>(first) : last;
  }

  // Position of sample `sample` in bin `bin`, before any displacement.
  DCNV2_INLINE T Position(int64_t bin, int64_t sample, RoiConvention convention) const {
    const T within = convention == RoiConvention::kAligned ? T(sample) + T(0.5) : T(sample);
    return start + T(bin) * bin_size + within * step;
  }
};

template <typename T>
DCNV2_INLINE RoiAxis<T> MakeRoiAxis(T low, T high, int64_t bins, int32_t map_size, double spatial_scale,
                                    int64_t sampling_ratio, RoiConvention convention) {
  const T scale = static_cast<T>(spatial_scale);
  RoiAxis<T> axis;
  if (convention == RoiConvention::kMxnet) {
    // The far edge belongs to the box, and no box is thinner than a tenth of a feature pixel.
    axis.start = RoundHalfAwayFromZero(low) * scale - T(0.5);
    const T size = (RoundHalfAwayFromZero(high) + T(1)) * scale - T(0.5) - axis.start;
    axis.size = size < T(0.1) ? T(0.1) : size;
  } else {
    axis.start = low * scale - T(0.5);
    axis.size = high * scale - T(0.5) - axis.start;
  }
  axis.bin_size = axis.size / T(bins);
  axis.total_samples = sampling_ratio;
  if (sampling_ratio == 0) {
    // A box that is NaN takes one sample, which is NaN.
    const T wanted = Ceil(axis.bin_size);
    if (wanted <= T(0)) {
      axis.total_samples = 0;
    } else if (wanted < T(kMostRoiSamples)) {
      axis.total_samples = static_cast<int64_t>(wanted);
    } else {
      axis.total_samples = wanted == wanted ? kMostRoiSamples : 1;
    }
  }
  axis.step = axis.total_samples > 0 ? axis.bin_size / T(axis.total_samples) : T(0);
  axis.samples = axis.total_samples;
  if (sampling_ratio == 0 && axis.total_samples > 1) {
    // Samples off the map are zero. Left out, they make a wild box cost no more than a pass over the map: the step is
    // above half a pixel.
    const int64_t on_map = static_cast<int64_t>(T(map_size + 1) / axis.step) + 4;
    if (on_map < axis.samples) axis.samples = on_map;
  }
  return axis;
}

// Samples one axis by the convention's border rule.
template <typename T>
DCNV2_INLINE AxisSample<T> RoiAxisSample(T position, int32_t size, RoiConvention convention) {
  return convention == RoiConvention::kAligned ? RoiAlignAxis(position, size) : MxnetAxis(position, size);
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_ROI_GEOMETRY_H_
