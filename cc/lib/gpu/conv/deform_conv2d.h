// Modulated deformable convolution on CUDA devices.
//
// All pointers are of device memory. Work is queued on the stream and the functions return without waiting for it; what
// they return is the status of the launches. Nothing is allocated: the caller provides workspaces.
#ifndef DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_H_
#define DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cc/lib/deform_conv2d.h"
#include "cc/lib/gpu/common/options.h"

namespace dcnv2 {

// Size of the workspace, in bytes, with which DeformConv2DForwardGpu is fastest. It grows with the kernel only.
template <typename S>
int64_t DeformConv2DForwardGpuWorkspace(const DeformConv2DShape& shape, const GpuOptions& options);

// `workspace` is aligned to 256 bytes, or null.
template <typename S>
cudaError_t DeformConv2DForwardGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, S* y,
                                   void* workspace, const GpuOptions& options, cudaStream_t stream);

// Size of DeformConv2DBackwardGpu's workspace in bytes. It grows with the kernel and, for 16-bit tensors, with x; never
// with the taps times the pixels.
template <typename S>
int64_t DeformConv2DBackwardGpuWorkspace(const DeformConv2DShape& shape, const GpuOptions& options);

// `workspace` is aligned to 256 bytes; null where its size is zero.
template <typename S>
cudaError_t DeformConv2DBackwardGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                                    const DeformConv2DGradients<S>& gradients, void* workspace,
                                    const GpuOptions& options, cudaStream_t stream);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_H_
