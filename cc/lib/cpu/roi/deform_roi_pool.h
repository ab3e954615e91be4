// (Modulated) deformable RoI pooling on the CPU. No result depends on the number of threads.
#ifndef DCNV2_CC_LIB_CPU_ROI_DEFORM_ROI_POOL_H_
#define DCNV2_CC_LIB_CPU_ROI_DEFORM_ROI_POOL_H_

#include "cc/lib/cpu/parallel.h"
#include "cc/lib/deform_roi_pool.h"

namespace dcnv2 {

template <typename S>
void DeformRoiPoolForward(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, S* y,
                          const ParallelFor& parallel_for);

template <typename S>
void DeformRoiPoolBackward(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy,
                           const DeformRoiPoolGradients<S>& gradients, const ParallelFor& parallel_for);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_ROI_DEFORM_ROI_POOL_H_
