// The two independent parts of the backward pass on CUDA devices. They may use one workspace one after the other.
#ifndef DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_BACKWARD_H_
#define DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_BACKWARD_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cc/lib/deform_conv2d.h"
#include "cc/lib/gpu/common/options.h"

namespace dcnv2 {

// Sizes of workspaces are in bytes, and a workspace is aligned to 256 bytes.
template <typename S>
int64_t KernelGradientGpuWorkspace(const DeformConv2DShape& shape);

// The same bits for the same inputs, options and device.
template <typename S>
cudaError_t KernelGradientGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                              S* dkernel, void* workspace, const GpuOptions& options, cudaStream_t stream);

template <typename S>
int64_t ImageGradientGpuWorkspace(const DeformConv2DShape& shape, const GpuOptions& options);

// The gradients of x, offset and mask, except those that are null; `gradients.kernel` is not touched.
template <typename S>
cudaError_t ImageGradientGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                             const DeformConv2DGradients<S>& gradients, void* workspace, const GpuOptions& options,
                             cudaStream_t stream);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_BACKWARD_H_
