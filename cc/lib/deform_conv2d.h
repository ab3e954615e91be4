// The problem that every implementation of modulated deformable convolution solves:
//   y(p) = sum_k w_k x(p + p_k + offset_k) mask_k.
//
// Layouts: x [batch, in_height, in_width, in_channels], kernel [kernel_height, kernel_width, in_channels / groups,
// out_channels], offset [batch, out_height, out_width, deformable_groups, taps, (row, column)] in input pixels,
// mask [batch, out_height, out_width, deformable_groups, taps], y [batch, out_height, out_width, out_channels].
#ifndef DCNV2_CC_LIB_DEFORM_CONV2D_H_
#define DCNV2_CC_LIB_DEFORM_CONV2D_H_

#include "cc/lib/geometry.h"
#include "cc/lib/storage.h"

namespace dcnv2 {

// S is float, double, BFloat16 or Half; coordinates, modulations and all sums are of type Compute<S>.
template <typename S>
struct DeformConv2DInputs {
  const S* x;
  const S* kernel;
  const Compute<S>* offset;
  const Compute<S>* mask;  // null for deformable convolution v1, where every modulation is one
};

// What is null is not computed by CUDA kernels; those of the processor compute everything.
template <typename S>
struct DeformConv2DGradients {
  S* x;
  S* kernel;
  Compute<S>* offset;
  Compute<S>* mask;  // null exactly when the input's mask or `offset` is
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_DEFORM_CONV2D_H_
