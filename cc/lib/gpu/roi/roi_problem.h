// RoI pooling as its CUDA kernels receive it: by value, with the launch.
#ifndef DCNV2_CC_LIB_GPU_ROI_ROI_PROBLEM_H_
#define DCNV2_CC_LIB_GPU_ROI_ROI_PROBLEM_H_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cc/lib/geometry.h"
#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/roi/deform_roi_pool.h"
#include "cc/lib/host_device.h"

namespace dcnv2 {

template <typename S>
struct GpuRoiProblem {
  struct Level {
    const S* features;
    Compute<S>* sums;  // of the features' gradient, laid out like them; null in the forward pass
    RoiLevel size;
  };
  Level levels[kMaxGpuRoiLevels];
  int level_count, channels, bins;
  int64_t batch, rois;
  DeformRoiPoolConfig config;
  const Compute<S>* boxes;
  const int32_t *box_indices, *level_of_roi;
  const Compute<S>*offset, *mask;  // may be null

  // How many map rows, or columns, the samples of a bin may touch before they are taken in slices: 2^entry_bits, twice
  // as many as there are samples in a slice.
  int entry_bits;

  // Whether the RoI is of an image that there is, on a level that there is.
  DCNV2_INLINE bool IsKnown(int64_t roi) const {
    return level_of_roi[roi] >= 0 && level_of_roi[roi] < level_count && box_indices[roi] >= 0 &&
           box_indices[roi] < batch;
  }
  // Where the map of a known RoI starts in its level, in elements.
  DCNV2_INLINE int64_t MapOffset(int64_t roi) const {
    const RoiLevel& size = levels[level_of_roi[roi]].size;
    return int64_t{box_indices[roi]} * size.height * size.width * channels;
  }
};

// Whether the kernels can index the problem; then *problem is filled but for `sums`.
template <typename S>
bool MakeGpuRoiProblem(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs,
                       GpuRoiProblem<S>* problem) {
  // Channels of a pixel are counted in 32 bits, in bytes too; so are a RoI's bins.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / 16;
  const DeformRoiPoolConfig& config = shape.config;
  if (shape.levels.size() > kMaxGpuRoiLevels || shape.channels > kMost || config.pooled_height > kMost ||
      config.pooled_width > kMost || config.bins() > kMost || config.sampling_ratio > kMost) {
    return false;
  }
  *problem = {};
  for (size_t level = 0; level < shape.levels.size(); ++level) {
    problem->levels[level] = {inputs.features[level], nullptr, shape.levels[level]};
  }
  problem->level_count = static_cast<int>(shape.levels.size());
  problem->channels = static_cast<int>(shape.channels);
  problem->bins = static_cast<int>(config.bins());
  problem->batch = shape.batch;
  problem->rois = shape.rois;
  problem->config = config;
  problem->boxes = inputs.boxes;
  problem->box_indices = inputs.box_indices;
  problem->level_of_roi = inputs.levels;
  problem->offset = inputs.offset;
  problem->mask = inputs.mask;
  // Two samples a slice where they are enough. The others save memory accesses by their common pixels.
  problem->entry_bits = config.sampling_ratio == 1 || config.sampling_ratio == 2 ? 2 : 3;
  return true;
}

// Whether all pixels of the features consist of aligned vectors of kSize channels.
template <int kSize, typename S>
bool TakesVectors(const GpuRoiProblem<S>& problem) {
  bool aligned = problem.channels % kSize == 0;
  for (int level = 0; level < problem.level_count; ++level) {
    aligned &= IsAligned(problem.levels[level].features, kSize * sizeof(S));
  }
  return aligned;
}

// The RoIs of one launch, whose warps take some bins of a RoI each.
struct RoiLaunch {
  int64_t begin, end;
  int bins_per_warp, warps_per_roi;

  int64_t warps() const { return (end - begin) * warps_per_roi; }
};

// Calls launch(RoiLaunch), mostly once. Warps take `most_bins` bins, or fewer where the device would be idle otherwise.
template <typename S, typename Launch>
cudaError_t ForEachRoiLaunch(const GpuRoiProblem<S>& problem, int most_bins, Launch launch) {
  constexpr int64_t kWarpsPerProcessor = 32;
  constexpr int64_t kMostWarps = int64_t{1} << 30;  // kernels count them in 32 bits
  GpuDevice device;
  if (const cudaError_t error = DescribeGpu(&device)) return error;
  const int64_t wanted = problem.rois * problem.bins / (device.multiprocessors * kWarpsPerProcessor);
  const int64_t bins = std::min<int64_t>(std::max<int64_t>(wanted, 1), most_bins);
  const int64_t warps = CeilDiv(problem.bins, bins);
  const int64_t rois = std::max<int64_t>(kMostWarps / warps, 1);
  for (int64_t roi = 0; roi < problem.rois; roi += rois) {
    const cudaError_t error =
        launch(RoiLaunch{roi, std::min(roi + rois, problem.rois), static_cast<int>(CeilDiv(problem.bins, warps)),
                         static_cast<int>(warps)});
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_ROI_ROI_PROBLEM_H_
