// Sampling on CUDA devices: where an output pixel samples a map and with which weights.
//
// Planning a sample is some dozen instructions and serves all channels of its deformable group, so blocks of threads
// plan each once and leave it in shared memory for the threads that read channels.
#ifndef DCNV2_CC_LIB_GPU_CONV_SAMPLING_CUH_
#define DCNV2_CC_LIB_GPU_CONV_SAMPLING_CUH_

#include <cuda_runtime.h>

#include "cc/lib/bilinear.h"
#include "cc/lib/deform_conv2d.h"

namespace dcnv2 {

// What all samples of one output pixel have in common. See PixelStrips::Locate.
struct OutputPixel {
  int64_t index;         // among those of the whole batch; -1 beyond the last one
  int64_t image_begin;   // index of its image's first pixel among all pixels of x; always one that exists
  int64_t first_sample;  // index of (deformable group 0, tap 0) in mask, and half of that in offset; -1 beyond
  int64_t top, left;     // of tap (0, 0) without its offset
};

// One sample's share of offset and mask. It is read well before it is used, to hide how long that takes.
template <typename T>
struct SampleInput {
  T row_offset, column_offset, modulation;
};

template <typename T>
__device__ __forceinline__ SampleInput<T> ReadSampleInput(const DeformConv2DShape& shape, const OutputPixel& pixel,
                                                          int deformable_group, int tap, const T* offset,
                                                          const T* mask) {
  if (pixel.first_sample < 0) return {T(0), T(0), T(0)};
  const int64_t sample = pixel.first_sample + deformable_group * shape.taps() + tap;
  return {__ldg(offset + 2 * sample), __ldg(offset + 2 * sample + 1), mask == nullptr ? T(1) : __ldg(mask + sample)};
}

template <typename T>
__device__ __forceinline__ BilinearSample<T> LocateSample(const DeformConv2DShape& shape, const OutputPixel& pixel,
                                                          int tap, const SampleInput<T>& input) {
  const int tap_row = tap / static_cast<int>(shape.kernel_width);
  const int tap_column = tap - tap_row * static_cast<int>(shape.kernel_width);
  const T row = static_cast<T>(pixel.top + tap_row * shape.dilation.height) + input.row_offset;
  const T column = static_cast<T>(pixel.left + tap_column * shape.dilation.width) + input.column_offset;
  return {ZeroOutsideAxis(row, static_cast<int32_t>(shape.in_height)),
          ZeroOutsideAxis(column, static_cast<int32_t>(shape.in_width))};
}

// value[c] = sum_i weight[i] * image[corner[i]][c]. Corners are pixels of one image and always exist, but a sample may
// be `absent`: it contributes nothing, whatever the map holds there. corner[0] then is -1.
template <typename T>
struct alignas(16) PlannedSample {
  int32_t corner[4];
  T weight[4];
};

__device__ __forceinline__ bool IsAbsent(int32_t first_corner) { return first_corner < 0; }

// For values: the weights include the modulation.
template <typename T>
__device__ __forceinline__ PlannedSample<T> PlanSample(const DeformConv2DShape& shape, const OutputPixel& pixel,
                                                       int tap, const SampleInput<T>& input) {
  const BilinearSample<T> sample = LocateSample(shape, pixel, tap, input);
  const T validity = sample.validity();
  const T scale = validity * input.modulation;
  // Outside the map there is nothing to read, unless the modulation is NaN, which must still reach the output.
  const bool absent = pixel.first_sample < 0 || (validity == T(0) && scale == T(0));
  PlannedSample<T> plan;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int32_t corner = sample.corner(i, static_cast<int32_t>(shape.in_width));
    plan.corner[i] = i == 0 && absent ? -1 : corner;
    plan.weight[i] = scale * sample.weight(i);
  }
  return plan;
}

// For gradients: forms of dot[i] = sum_c dvalue[c] * image[corner[i]][c], and the factors of dvalue that are added to
// the map. An absent sample adds nothing and its dots are zero; its own gradients are the forms of those all the same:
// NaN where its position is, otherwise zero.
template <typename T>
struct alignas(16) PlannedGradient {
  int32_t corner[4];
  T weight[4];         // of dvalue, at the corners
  T interpolation[4];  // dmask = sum_i interpolation[i] * dot[i]
  T row_slope[4];      // doffset, both modulated
  T column_slope[4];
};

template <typename T>
__device__ __forceinline__ PlannedGradient<T> PlanGradient(const DeformConv2DShape& shape, const OutputPixel& pixel,
                                                           const BilinearSample<T>& sample, T modulation) {
  const T validity = sample.validity();
  const bool outside = validity == T(0);
  // There are no gradients outside, whatever the modulation.
  const T scale = outside ? T(0) : validity * modulation;
  const bool absent = pixel.first_sample < 0 || outside || validity != validity;
  PlannedGradient<T> plan;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int32_t corner = sample.corner(i, static_cast<int32_t>(shape.in_width));
    plan.corner[i] = i == 0 && absent ? -1 : corner;
    plan.weight[i] = scale * sample.weight(i);
    plan.interpolation[i] = validity * sample.weight(i);
    plan.row_slope[i] = scale * sample.row_slope(i);
    plan.column_slope[i] = scale * sample.column_slope(i);
  }
  return plan;
}
template <typename T>
__device__ __forceinline__ PlannedGradient<T> PlanGradient(const DeformConv2DShape& shape, const OutputPixel& pixel,
                                                           int tap, const SampleInput<T>& input) {
  return PlanGradient(shape, pixel, LocateSample(shape, pixel, tap, input), input.modulation);
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_SAMPLING_CUH_
