// The gradient of x summed in a fixed order, for bit for bit repeatable results.
//
// Instead of adding to dx from everywhere, the columns of a band of pixels are stored first, then every element of dx
// is summed by a thread that owns it. Bands bound the memory that takes.
#ifndef DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_ORDERED_GRADIENT_H_
#define DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_ORDERED_GRADIENT_H_

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

#include "cc/lib/deform_conv2d.h"

namespace dcnv2 {

// dcolumn at a band of pixels, in device memory.
template <typename T>
struct OrderedColumns {
  T* columns;             // [pixel, tap, channel]
  int32_t* first_corner;  // [pixel, deformable group, tap]: PlannedGradient's, -1 where the sample is absent
};

// How many pixels such a band has, and its memory.
template <typename T>
struct OrderedBand {
  int64_t pixels = 0;
  int64_t columns_bytes = 0, corners_bytes = 0;

  explicit OrderedBand(const DeformConv2DShape& shape) {
    // About half the second-level cache of a large device.
    constexpr int64_t kBytes = int64_t{32} << 20;
    const int64_t columns_per_pixel = shape.taps() * shape.in_channels * static_cast<int64_t>(sizeof(T));
    const int64_t corners_per_pixel = shape.samples_per_pixel() * static_cast<int64_t>(sizeof(int32_t));
    const int64_t wanted = kBytes / (columns_per_pixel + corners_per_pixel);
    pixels = std::max<int64_t>(std::min(wanted, shape.batch * shape.out_pixels()), 1);
    columns_bytes = pixels * columns_per_pixel;
    corners_bytes = pixels * corners_per_pixel;
  }
};

// Adds the columns of pixels [first_pixel, first_pixel + pixels) of the batch to dx.
template <typename T>
cudaError_t AddColumnsInOrder(const DeformConv2DShape& shape, const T* offset, const T* mask,
                              const OrderedColumns<T>& band, int64_t first_pixel, int64_t pixels, T* dx,
                              cudaStream_t stream);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_ORDERED_GRADIENT_H_
