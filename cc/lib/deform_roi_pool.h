// The problem that every implementation of (modulated) deformable RoI pooling solves, over one or several feature
// levels:
//   y(roi, bin) = mask(bin) / n * sum over the n samples of the bin of x(sample + offset(bin)).
//
// Layouts: every level [batch, height, width, channels], boxes [rois, (y1, x1, y2, x2)] in pixels of the network image,
// offset [rois, pooled_height, pooled_width, (row, column)] in units of gamma * RoI size, mask [rois, pooled_height,
// pooled_width], y [rois, pooled_height, pooled_width, channels].
#ifndef DCNV2_CC_LIB_DEFORM_ROI_POOL_H_
#define DCNV2_CC_LIB_DEFORM_ROI_POOL_H_

#include <cstdint>
#include <vector>

#include "cc/lib/roi_geometry.h"
#include "cc/lib/storage.h"

namespace dcnv2 {

struct DeformRoiPoolShape {
  int64_t batch, channels, rois;
  std::vector<RoiLevel> levels;
  DeformRoiPoolConfig config;
};

// S is float, double, BFloat16 or Half; boxes, displacements, modulations and all sums are of type Compute<S>.
template <typename S>
struct DeformRoiPoolInputs {
  std::vector<const S*> features;  // one per level
  const Compute<S>* boxes;
  const int32_t* box_indices;  // in [0, batch)
  const int32_t* levels;       // in [0, number of levels)
  const Compute<S>* offset;    // null: no displacement
  const Compute<S>* mask;      // null: every modulation is one
};

template <typename S>
struct DeformRoiPoolGradients {
  std::vector<S*> features;
  Compute<S>* offset;  // null exactly when the input's is
  Compute<S>* mask;    // null exactly when the input's is
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_DEFORM_ROI_POOL_H_
