#include "cc/ops/deform_roi_pool_arguments.h"

#include "absl/strings/str_join.h"

namespace dcnv2 {
namespace {

using tensorflow::PartialTensorShape;

// Far beyond any use, and small enough that no product of two overflows and no bin takes forever.
constexpr int64_t kMaxOutputSize = 1024;
constexpr int64_t kMaxSamplingRatio = 128;

absl::Status ResolveFeatures(const std::vector<PartialTensorShape>& features, DeformRoiPoolSizes* sizes) {
  sizes->batch = sizes->channels = kUnknown;
  for (size_t level = 0; level < features.size(); ++level) {
    const PartialTensorShape& map = features[level];
    const std::string name = absl::StrCat("features[", level, "]");
    TF_RETURN_IF_ERROR(CheckRank(name.c_str(), map, 4, "[batch, height, width, channels]"));
    TF_RETURN_IF_ERROR(CheckDimension(name.c_str(), map, 0, sizes->batch, "the batch of the levels before"));
    TF_RETURN_IF_ERROR(CheckDimension(name.c_str(), map, 3, sizes->channels, "the channels of the levels before"));
    sizes->batch = KnownOf(sizes->batch, DimensionOrUnknown(map, 0));
    sizes->channels = KnownOf(sizes->channels, DimensionOrUnknown(map, 3));
  }
  return absl::OkStatus();
}

absl::Status ResolveRois(const char* name, const PartialTensorShape& shape, int64_t* rois) {
  TF_RETURN_IF_ERROR(CheckDimension(name, shape, 0, *rois, "one for each RoI, as in boxes"));
  *rois = KnownOf(*rois, DimensionOrUnknown(shape, 0));
  return absl::OkStatus();
}

absl::Status ResolveBins(const char* name, const PartialTensorShape& shape, const DeformRoiPoolConfig& config,
                         int64_t* rois) {
  TF_RETURN_IF_ERROR(ResolveRois(name, shape, rois));
  TF_RETURN_IF_ERROR(CheckDimension(name, shape, 1, config.pooled_height, "the height of output_size"));
  return CheckDimension(name, shape, 2, config.pooled_width, "the width of output_size");
}

}  // namespace

absl::Status CheckDeformRoiPoolAttributes(const std::vector<int64_t>& output_size, const std::string& convention,
                                          DeformRoiPoolConfig* config) {
  bool valid = output_size.size() == 2;
  for (int64_t size : output_size) valid = valid && size >= 1 && size <= kMaxOutputSize;
  if (!valid) {
    return InvalidArgument("output_size must be two integers, (height, width), from 1 to ", kMaxOutputSize,
                           ". Received: output_size=[", absl::StrJoin(output_size, ", "), "]");
  }
  config->pooled_height = output_size[0];
  config->pooled_width = output_size[1];
  config->convention = convention == "mxnet" ? RoiConvention::kMxnet : RoiConvention::kAligned;
  const int64_t least = config->convention == RoiConvention::kMxnet ? 1 : 0;
  if (config->sampling_ratio < least || config->sampling_ratio > kMaxSamplingRatio) {
    return InvalidArgument("sampling_ratio must be from ", least, " to ", kMaxSamplingRatio,
                           " with convention=", convention, ". Received: sampling_ratio=", config->sampling_ratio);
  }
  return absl::OkStatus();
}

absl::Status ResolveDeformRoiPoolSizes(const DeformRoiPoolAttributes& attributes,
                                       const DeformRoiPoolInputShapes& inputs, DeformRoiPoolSizes* sizes) {
  TF_RETURN_IF_ERROR(ResolveFeatures(inputs.features, sizes));
  sizes->rois = kUnknown;
  TF_RETURN_IF_ERROR(CheckRank("boxes", inputs.boxes, 2, "[rois, 4]"));
  TF_RETURN_IF_ERROR(CheckDimension("boxes", inputs.boxes, 1, 4, "(y1, x1, y2, x2)"));
  TF_RETURN_IF_ERROR(ResolveRois("boxes", inputs.boxes, &sizes->rois));
  TF_RETURN_IF_ERROR(CheckRank("box_indices", inputs.box_indices, 1, "[rois]"));
  TF_RETURN_IF_ERROR(ResolveRois("box_indices", inputs.box_indices, &sizes->rois));
  TF_RETURN_IF_ERROR(CheckRank("levels", inputs.levels, 1, "[rois]"));
  TF_RETURN_IF_ERROR(ResolveRois("levels", inputs.levels, &sizes->rois));
  if (attributes.use_offset) {
    TF_RETURN_IF_ERROR(CheckRank("offset", inputs.offset, 4, "[rois, output_height, output_width, 2]"));
    TF_RETURN_IF_ERROR(ResolveBins("offset", inputs.offset, attributes.config, &sizes->rois));
    TF_RETURN_IF_ERROR(CheckDimension("offset", inputs.offset, 3, 2, "(row, column)"));
  } else {
    TF_RETURN_IF_ERROR(CheckUnused("offset", "use_offset", inputs.offset));
  }
  if (attributes.use_mask) {
    TF_RETURN_IF_ERROR(CheckRank("mask", inputs.mask, 3, "[rois, output_height, output_width]"));
    TF_RETURN_IF_ERROR(ResolveBins("mask", inputs.mask, attributes.config, &sizes->rois));
  } else {
    TF_RETURN_IF_ERROR(CheckUnused("mask", "use_mask", inputs.mask));
  }
  TF_RETURN_IF_ERROR(CheckRank("spatial_scales", inputs.spatial_scales, 1, "[levels]"));
  const int64_t levels = inputs.features.size();
  TF_RETURN_IF_ERROR(CheckDimension("spatial_scales", inputs.spatial_scales, 0, levels, "one per feature level"));
  return CheckRank("gamma", inputs.gamma, 0, "a scalar");
}

absl::Status CheckOutputGradient(const DeformRoiPoolAttributes& attributes, const DeformRoiPoolSizes& sizes,
                                 const PartialTensorShape& dy) {
  TF_RETURN_IF_ERROR(CheckRank("dy", dy, 4, "[rois, output_height, output_width, channels]"));
  int64_t rois = sizes.rois;
  TF_RETURN_IF_ERROR(ResolveBins("dy", dy, attributes.config, &rois));
  return CheckDimension("dy", dy, 3, sizes.channels, "the channels of features");
}

}  // namespace dcnv2
