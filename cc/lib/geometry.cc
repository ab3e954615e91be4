#include "cc/lib/geometry.h"

#include <algorithm>
#include <limits>

namespace dcnv2 {

bool CheckedProduct(std::initializer_list<int64_t> factors, int64_t* product) {
  *product = 1;
  for (int64_t factor : factors) {
    if (__builtin_mul_overflow(*product, factor, product)) return false;
  }
  return true;
}

bool ComputeWindowExtent(int64_t in_size, int64_t kernel_size, int64_t stride, int64_t dilation, Padding padding,
                         int64_t explicit_before, int64_t explicit_after, WindowExtent* extent) {
  // With every operand below 2^31 the sums and products below stay far from 2^63.
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  for (int64_t operand : {in_size, kernel_size, stride, dilation, explicit_before, explicit_after}) {
    if (operand < 0 || operand > kLimit) return false;
  }
  const int64_t window = (kernel_size - 1) * dilation + 1;
  if (padding == Padding::kSame) {
    extent->out_size = (in_size + stride - 1) / stride;
    const int64_t total = std::max<int64_t>((extent->out_size - 1) * stride + window - in_size, 0);
    extent->padding_before = total / 2;
    return true;
  }
  const bool is_explicit = padding == Padding::kExplicit;
  extent->padding_before = is_explicit ? explicit_before : 0;
  const int64_t padded = in_size + (is_explicit ? explicit_before + explicit_after : 0);
  if (padded - window + stride < 0) return false;
  extent->out_size = (padded - window + stride) / stride;
  return true;
}

bool IsIndexableMap(int64_t height, int64_t width) {
  // Up to 2^24 every pixel's position is a float.
  constexpr int64_t kMaxSide = int64_t{1} << 24;
  return height <= kMaxSide && width <= kMaxSide && height * width <= std::numeric_limits<int32_t>::max();
}

std::string CheckIndexable(const DeformConv2DShape& shape) {
  int64_t ignored;
  if (!IsIndexableMap(shape.in_height, shape.in_width)) {
    return "one image of x has a side of more than 2^24 pixels or an area of more than 2^31 - 1";
  }
  if (!CheckedProduct({shape.batch, shape.out_height, shape.out_width, shape.samples_per_pixel(), 2}, &ignored) ||
      !CheckedProduct({shape.batch, shape.out_height, shape.out_width, shape.out_channels}, &ignored)) {
    return "offset or y would have more than 2^63 - 1 elements";
  }
  return "";
}

}  // namespace dcnv2
