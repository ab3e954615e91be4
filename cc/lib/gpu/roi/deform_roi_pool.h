// (Modulated) deformable RoI pooling on CUDA devices.
//
// All pointers are of device memory, those in vectors too; the vectors themselves are the host's. Work is queued on the
// stream and the functions return without waiting for it; what they return is the status of the launches. Nothing is
// allocated: backward uses a workspace that the caller provides.
//
// Nobody has looked at box_indices and levels before. A RoI for which one of them is out of range touches no memory:
// its outputs and the gradients of its offset and mask are NaN.
#ifndef DCNV2_CC_LIB_GPU_ROI_DEFORM_ROI_POOL_H_
#define DCNV2_CC_LIB_GPU_ROI_DEFORM_ROI_POOL_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cc/lib/deform_roi_pool.h"
#include "cc/lib/gpu/common/options.h"

namespace dcnv2 {

// Levels travel with the launch, so there is a limit to their number.
constexpr int kMaxGpuRoiLevels = 16;

template <typename S>
cudaError_t DeformRoiPoolForwardGpu(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, S* y,
                                    cudaStream_t stream);

// Size of DeformRoiPoolBackwardGpu's workspace in bytes: for 16-bit features, a float32 copy of them; otherwise little.
template <typename S>
int64_t DeformRoiPoolBackwardGpuWorkspace(const DeformRoiPoolShape& shape, const GpuOptions& options);

// `workspace` is aligned to 256 bytes; null where its size is zero.
template <typename S>
cudaError_t DeformRoiPoolBackwardGpu(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy,
                                     const DeformRoiPoolGradients<S>& gradients, void* workspace,
                                     const GpuOptions& options, cudaStream_t stream);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_ROI_DEFORM_ROI_POOL_H_
