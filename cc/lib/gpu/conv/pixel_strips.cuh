// The order in which kernels take the pixels of a batch: in vertical strips of every image, the last of which may be
// narrower.
#ifndef DCNV2_CC_LIB_GPU_CONV_PIXEL_STRIPS_CUH_
#define DCNV2_CC_LIB_GPU_CONV_PIXEL_STRIPS_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/lib/gpu/common/divisor.h"
#include "cc/lib/gpu/conv/sampling.cuh"

namespace dcnv2 {

class PixelStrips {
 public:
  // Of a shape that is not empty.
  PixelStrips(const DeformConv2DShape& shape, int64_t strip_width)
      : pixels_(shape.batch * shape.out_pixels()),
        image_pixels_(shape.out_pixels()),
        strip_pixels_(shape.out_height * strip_width),
        width_(strip_width),
        last_width_(shape.out_width - (CeilDiv(shape.out_width, strip_width) - 1) * strip_width),
        by_image_(image_pixels_),
        by_strip_(strip_pixels_),
        by_width_(width_),
        by_last_width_(last_width_) {}

  // Row by row, which is the order in memory: a strip for each image.
  static PixelStrips ByRow(const DeformConv2DShape& shape) { return PixelStrips(shape, shape.out_width); }

  // Two rows of a strip sample about the same rows of the map at about the same time. Strips are as wide as keeps those
  // in the first-level cache; narrow maps are one strip.
  static PixelStrips ForGathering(const DeformConv2DShape& shape) {
    constexpr int64_t kWidth = 16;
    return PixelStrips(shape, CeilDiv(shape.out_width, CeilDiv(shape.out_width, kWidth)));
  }

  // `ordinal` counts the pixels of the whole batch; beyond the last there is the pixel that does not exist.
  __device__ __forceinline__ OutputPixel Locate(const DeformConv2DShape& shape, int64_t ordinal) const {
    if (ordinal >= pixels_) return {-1, 0, -1, 0, 0};
    return pixels_ <= 0x7fffffff ? LocateAs<uint32_t>(shape, ordinal) : LocateAs<int64_t>(shape, ordinal);
  }

 private:
  static __device__ __forceinline__ OutputPixel LocateOutput(const DeformConv2DShape& shape, int64_t image, int64_t row,
                                                             int64_t column) {
    const int64_t index = image * shape.out_pixels() + row * shape.out_width + column;
    return {index, image * shape.in_height * shape.in_width, index * shape.samples_per_pixel(),
            row * shape.stride.height - shape.padding_before.height,
            column * shape.stride.width - shape.padding_before.width};
  }

  template <typename Integer>
  __device__ __forceinline__ OutputPixel LocateAs(const DeformConv2DShape& shape, int64_t ordinal) const {
    const auto number = static_cast<Integer>(ordinal);
    const Integer image = by_image_.Quotient(number);
    const Integer in_image = number - image * static_cast<Integer>(image_pixels_);
    const Integer strip = by_strip_.Quotient(in_image);
    const Integer in_strip = in_image - strip * static_cast<Integer>(strip_pixels_);
    const Integer strip_begin = strip * static_cast<Integer>(width_);
    const bool is_last = strip_begin + static_cast<Integer>(width_) >= static_cast<Integer>(shape.out_width);
    const Integer row = is_last ? by_last_width_.Quotient(in_strip) : by_width_.Quotient(in_strip);
    const Integer in_row = in_strip - row * static_cast<Integer>(is_last ? last_width_ : width_);
    return LocateOutput(shape, image, row, strip_begin + in_row);
  }

  int64_t pixels_, image_pixels_, strip_pixels_, width_, last_width_;
  Divisor by_image_, by_strip_, by_width_, by_last_width_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_PIXEL_STRIPS_CUH_
