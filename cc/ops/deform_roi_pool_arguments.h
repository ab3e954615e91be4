// Attributes and shapes of the RoI pooling ops: read, checked and resolved once for op and kernel.
#ifndef DCNV2_CC_OPS_DEFORM_ROI_POOL_ARGUMENTS_H_
#define DCNV2_CC_OPS_DEFORM_ROI_POOL_ARGUMENTS_H_

#include <string>
#include <vector>

#include "cc/lib/roi_geometry.h"
#include "cc/ops/partial_shapes.h"

namespace dcnv2 {

struct DeformRoiPoolAttributes {
  bool use_offset, use_mask;
  DeformRoiPoolConfig config;  // all but gamma, which is an input
};

absl::Status CheckDeformRoiPoolAttributes(const std::vector<int64_t>& output_size, const std::string& convention,
                                          DeformRoiPoolConfig* config);

// `Context` is an InferenceContext or an OpKernelConstruction.
template <typename Context>
absl::Status ReadAttributes(Context* context, DeformRoiPoolAttributes* attributes) {
  std::vector<int64_t> output_size;
  std::string convention;
  TF_RETURN_IF_ERROR(context->GetAttr("use_offset", &attributes->use_offset));
  TF_RETURN_IF_ERROR(context->GetAttr("use_mask", &attributes->use_mask));
  TF_RETURN_IF_ERROR(context->GetAttr("output_size", &output_size));
  TF_RETURN_IF_ERROR(context->GetAttr("sampling_ratio", &attributes->config.sampling_ratio));
  TF_RETURN_IF_ERROR(context->GetAttr("convention", &convention));
  return CheckDeformRoiPoolAttributes(output_size, convention, &attributes->config);
}

// The input shapes, by name.
struct DeformRoiPoolInputShapes {
  std::vector<tensorflow::PartialTensorShape> features;
  tensorflow::PartialTensorShape boxes, box_indices, levels, offset, mask, spatial_scales, gamma;
};

// Sizes that depend on something unknown are kUnknown.
struct DeformRoiPoolSizes {
  int64_t batch, channels, rois;
};

absl::Status ResolveDeformRoiPoolSizes(const DeformRoiPoolAttributes& attributes,
                                       const DeformRoiPoolInputShapes& inputs, DeformRoiPoolSizes* sizes);

// The same for the gradient's additional input.
absl::Status CheckOutputGradient(const DeformRoiPoolAttributes& attributes, const DeformRoiPoolSizes& sizes,
                                 const tensorflow::PartialTensorShape& dy);

}  // namespace dcnv2

#endif  // DCNV2_CC_OPS_DEFORM_ROI_POOL_ARGUMENTS_H_
