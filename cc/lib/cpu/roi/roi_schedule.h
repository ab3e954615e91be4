// Which maps RoIs read, what that costs, and in which order to take them.
#ifndef DCNV2_CC_LIB_CPU_ROI_ROI_SCHEDULE_H_
#define DCNV2_CC_LIB_CPU_ROI_ROI_SCHEDULE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "cc/lib/cpu/roi/deform_roi_pool.h"

namespace dcnv2 {

// Approximate cycles to pool one RoI.
inline int64_t RoiCost(const DeformRoiPoolShape& shape) {
  const int64_t samples = std::max<int64_t>(shape.config.sampling_ratio * shape.config.sampling_ratio, 4);
  return shape.config.bins() * samples * (40 + shape.channels / 2);
}

// The map of a RoI, an image of a level, counted through all levels.
template <typename S>
int64_t MapOfRoi(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, int64_t roi) {
  return inputs.levels[roi] * shape.batch + inputs.box_indices[roi];
}

// Where the map starts in its level, in elements.
template <typename S>
int64_t MapOffset(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, int64_t roi) {
  const RoiLevel& level = shape.levels[inputs.levels[roi]];
  return int64_t{inputs.box_indices[roi]} * level.height * level.width * shape.channels;
}

// All RoIs, with those that share pixels close to each other, so that these are in the cache.
template <typename S>
std::vector<int64_t> NeighboursTogether(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs) {
  constexpr int64_t kStripe = 32;  // feature pixels, about the height of a RoI
  std::vector<std::array<int64_t, 4>> keys(shape.rois);
  for (int64_t roi = 0; roi < shape.rois; ++roi) {
    const RoiLevel& level = shape.levels[inputs.levels[roi]];
    const auto middle = [&](int axis, int32_t size) {
      const auto* box = inputs.boxes + 4 * roi + axis;
      const auto pixel = (box[0] + box[2]) / 2 * static_cast<Compute<S>>(level.spatial_scale);
      // Boxes that are NaN or infinite lie at an end.
      return pixel > 0 ? (pixel < size ? static_cast<int64_t>(pixel) : size) : int64_t{0};
    };
    keys[roi] = {MapOfRoi(shape, inputs, roi), middle(0, level.height) / kStripe, middle(1, level.width), roi};
  }
  std::sort(keys.begin(), keys.end());
  std::vector<int64_t> order;
  for (const auto& key : keys) order.push_back(key[3]);
  return order;
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_ROI_ROI_SCHEDULE_H_
