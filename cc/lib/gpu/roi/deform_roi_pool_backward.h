// The ordered part of the gradient of RoI pooling on CUDA devices.
#ifndef DCNV2_CC_LIB_GPU_ROI_DEFORM_ROI_POOL_BACKWARD_H_
#define DCNV2_CC_LIB_GPU_ROI_DEFORM_ROI_POOL_BACKWARD_H_

#include <cuda_runtime_api.h>

#include "cc/lib/gpu/roi/roi_problem.h"

namespace dcnv2 {

// Channels that lanes take at once in the backward pass: 16 bytes of sums.
template <typename S>
constexpr int kRoiGradientVector = 16 / sizeof(Compute<S>);

// Adds the gradient with respect to the features to the problem's sums, to each of them in a fixed order. `vectors`:
// whether features, sums and dy consist of aligned vectors.
template <typename S>
cudaError_t OrderedRoiFeatureGradientGpu(const GpuRoiProblem<S>& problem, const S* dy, bool vectors,
                                         cudaStream_t stream);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_ROI_DEFORM_ROI_POOL_BACKWARD_H_
