// Modulated deformable convolution on the CPU.
//
// Scratch memory is a few MB per thread whatever the size of the image, and no result depends on the number of threads.
// Only the gradients of 16-bit x and kernel need more: they are summed in float32 copies of the same size.
#ifndef DCNV2_CC_LIB_CPU_CONV_DEFORM_CONV2D_H_
#define DCNV2_CC_LIB_CPU_CONV_DEFORM_CONV2D_H_

#include "cc/lib/cpu/parallel.h"
#include "cc/lib/deform_conv2d.h"

namespace dcnv2 {

template <typename S>
void DeformConv2DForward(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, S* y,
                         const ParallelFor& parallel_for);

template <typename S>
void DeformConv2DBackward(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                          const DeformConv2DGradients<S>& gradients, const ParallelFor& parallel_for);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_CONV_DEFORM_CONV2D_H_
