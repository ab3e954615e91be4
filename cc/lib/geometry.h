// Problem descriptions shared by every kernel, and arithmetic on sizes that cannot overflow silently.
#ifndef DCNV2_CC_LIB_GEOMETRY_H_
#define DCNV2_CC_LIB_GEOMETRY_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "cc/lib/host_device.h"

namespace dcnv2 {

// Of non-negative numbers.
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Window2D {
  int64_t height;
  int64_t width;
};

// Sizes of one deformable convolution, channels-last. Everything is validated before a kernel sees it:
// all counts positive (batch, height and width may be zero), groups and deformable_groups divide the channels.
struct DeformConv2DShape {
  int64_t batch, in_height, in_width, in_channels;
  int64_t out_height, out_width, out_channels;
  int64_t kernel_height, kernel_width, groups, deformable_groups;
  Window2D stride, dilation, padding_before;

  DCNV2_INLINE int64_t taps() const { return kernel_height * kernel_width; }
  DCNV2_INLINE int64_t out_pixels() const { return out_height * out_width; }
  DCNV2_INLINE int64_t group_in_channels() const { return in_channels / groups; }
  DCNV2_INLINE int64_t group_out_channels() const { return out_channels / groups; }
  DCNV2_INLINE int64_t deformable_group_channels() const { return in_channels / deformable_groups; }
  // Sampling positions per output pixel: one per (deformable group, tap).
  DCNV2_INLINE int64_t samples_per_pixel() const { return deformable_groups * taps(); }
  DCNV2_INLINE bool empty() const { return batch == 0 || out_pixels() == 0; }
  // Whether there are no pixels to sample: outputs are zero then.
  DCNV2_INLINE bool samples_nothing() const { return in_height == 0 || in_width == 0; }
  // Whether all gradients are zero, for want of outputs or of anything they could sample.
  DCNV2_INLINE bool has_no_gradient() const { return empty() || samples_nothing(); }
};

// One axis of a convolution window: how many outputs fit, and how much padding comes before the first input.
struct WindowExtent {
  int64_t out_size;
  int64_t padding_before;
};

enum class Padding { kValid, kSame, kExplicit };

// The rule of TensorFlow and Keras for all three paddings. Returns false when the window is larger than the padded
// input by more than a stride, where TensorFlow refuses as well, or when a size does not fit 64 bits.
bool ComputeWindowExtent(int64_t in_size, int64_t kernel_size, int64_t stride, int64_t dilation, Padding padding,
                         int64_t explicit_before, int64_t explicit_after, WindowExtent* extent);

// The product of non-negative factors; false when it does not fit 63 bits.
bool CheckedProduct(std::initializer_list<int64_t> factors, int64_t* product);

// Whether the kernels can address every pixel of one map exactly.
bool IsIndexableMap(int64_t height, int64_t width);

// Empty when the kernels can index this problem, otherwise the reason why not.
std::string CheckIndexable(const DeformConv2DShape& shape);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GEOMETRY_H_
