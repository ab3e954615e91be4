// The parts of the gradient of RoI pooling.
#ifndef DCNV2_CC_LIB_CPU_ROI_DEFORM_ROI_POOL_BACKWARD_H_
#define DCNV2_CC_LIB_CPU_ROI_DEFORM_ROI_POOL_BACKWARD_H_

#include <vector>

#include "cc/lib/cpu/roi/deform_roi_pool.h"

namespace dcnv2 {

// With respect to the features.
template <typename S>
void RoiFeatureGradient(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy,
                        const std::vector<S*>& dfeatures, const ParallelFor& parallel_for);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_ROI_DEFORM_ROI_POOL_BACKWARD_H_
