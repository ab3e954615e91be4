// Modulated deformable convolution on the CPU: y(p) = sum_k w_k x(p + p_k + offset_k) mask_k, for T = float, double.
//
// Layouts: x [batch, in_height, in_width, in_channels], kernel [kernel_height, kernel_width, in_channels / groups,
// out_channels], offset [batch, out_height, out_width, deformable_groups, taps, (row, column)] in input pixels,
// mask [batch, out_height, out_width, deformable_groups, taps], y [batch, out_height, out_width, out_channels].
//
// Scratch memory is a few MB per thread whatever the size of the image, and no result depends on the number of threads.
#ifndef DCNV2_CC_LIB_DEFORM_CONV_CPU_H_
#define DCNV2_CC_LIB_DEFORM_CONV_CPU_H_

#include "cc/lib/geometry.h"
#include "cc/lib/parallel.h"

namespace dcnv2 {

template <typename T>
struct DeformConvInputs {
  const T* x;
  const T* kernel;
  const T* offset;
  const T* mask;  // null for deformable convolution v1, where every modulation is one
};

template <typename T>
struct DeformConvGradients {
  T* x;
  T* kernel;
  T* offset;
  T* mask;  // null exactly when the input's is
};

template <typename T>
void DeformConvForward(const DeformConvShape& shape, const DeformConvInputs<T>& inputs, T* y,
                       const ParallelFor& parallel_for);

template <typename T>
void DeformConvBackward(const DeformConvShape& shape, const DeformConvInputs<T>& inputs, const T* dy,
                        const DeformConvGradients<T>& gradients, const ParallelFor& parallel_for);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_DEFORM_CONV_CPU_H_
