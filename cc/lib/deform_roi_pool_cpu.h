// (Modulated) deformable RoI pooling on the CPU, over one or several feature levels, for T = float, double:
//   y(roi, bin) = mask(bin) / n * sum over the n samples of the bin of x(sample + offset(bin)).
//
// Layouts: every level [batch, height, width, channels], boxes [rois, (y1, x1, y2, x2)] in pixels of the network image,
// offset [rois, pooled_height, pooled_width, (row, column)] in units of gamma * RoI size, mask [rois, pooled_height,
// pooled_width], y [rois, pooled_height, pooled_width, channels]. No result depends on the number of threads.
#ifndef DCNV2_CC_LIB_DEFORM_ROI_POOL_CPU_H_
#define DCNV2_CC_LIB_DEFORM_ROI_POOL_CPU_H_

#include <cstdint>
#include <vector>

#include "cc/lib/parallel.h"
#include "cc/lib/roi_geometry.h"

namespace dcnv2 {

struct RoiPoolShape {
  int64_t batch, channels, rois;
  std::vector<RoiLevel> levels;
  RoiPoolConfig config;
};

template <typename T>
struct RoiPoolInputs {
  std::vector<const T*> features;  // one per level
  const T* boxes;
  const int32_t* box_indices;  // in [0, batch)
  const int32_t* levels;       // in [0, number of levels)
  const T* offset;             // null: no displacement
  const T* mask;               // null: every modulation is one
};

template <typename T>
struct RoiPoolGradients {
  std::vector<T*> features;
  T* offset;  // null exactly when the input's is
  T* mask;    // null exactly when the input's is
};

template <typename T>
void DeformRoiPoolForward(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, T* y,
                          const ParallelFor& parallel_for);

template <typename T>
void DeformRoiPoolBackward(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, const T* dy,
                           const RoiPoolGradients<T>& gradients, const ParallelFor& parallel_for);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_DEFORM_ROI_POOL_CPU_H_
