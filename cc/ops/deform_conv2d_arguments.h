// Attributes and shapes of the deformable convolution ops: read, checked and resolved once for op and kernel.
#ifndef DCNV2_CC_OPS_DEFORM_CONV2D_ARGUMENTS_H_
#define DCNV2_CC_OPS_DEFORM_CONV2D_ARGUMENTS_H_

#include <string>
#include <vector>

#include "cc/lib/geometry.h"
#include "cc/ops/partial_shapes.h"

namespace dcnv2 {

struct DeformConv2DAttributes {
  bool use_mask;
  Window2D stride, dilation;
  Padding padding;
  int64_t explicit_paddings[4] = {0, 0, 0, 0};  // top, bottom, left, right
  int64_t deformable_groups;
};

absl::Status CheckWindow(const char* name, const std::vector<int64_t>& values, Window2D* window);
absl::Status CheckPadding(const std::string& padding, const std::vector<int64_t>& explicit_paddings,
                          DeformConv2DAttributes* attributes);

// `Context` is an InferenceContext or an OpKernelConstruction.
template <typename Context>
absl::Status ReadAttributes(Context* context, DeformConv2DAttributes* attributes) {
  std::vector<int64_t> strides, dilations, explicit_paddings;
  std::string padding;
  TF_RETURN_IF_ERROR(context->GetAttr("use_mask", &attributes->use_mask));
  TF_RETURN_IF_ERROR(context->GetAttr("strides", &strides));
  TF_RETURN_IF_ERROR(context->GetAttr("dilations", &dilations));
  TF_RETURN_IF_ERROR(context->GetAttr("padding", &padding));
  TF_RETURN_IF_ERROR(context->GetAttr("explicit_paddings", &explicit_paddings));
  TF_RETURN_IF_ERROR(context->GetAttr("deformable_groups", &attributes->deformable_groups));
  TF_RETURN_IF_ERROR(CheckWindow("strides", strides, &attributes->stride));
  TF_RETURN_IF_ERROR(CheckWindow("dilations", dilations, &attributes->dilation));
  return CheckPadding(padding, explicit_paddings, attributes);
}

// Checks what is known of the inputs and derives all sizes; sizes that depend on something unknown are kUnknown.
absl::Status ResolveDeformConv2DShape(const DeformConv2DAttributes& attributes, const tensorflow::PartialTensorShape& x,
                                      const tensorflow::PartialTensorShape& kernel,
                                      const tensorflow::PartialTensorShape& offset,
                                      const tensorflow::PartialTensorShape& mask, DeformConv2DShape* shape);

// The same for the gradient's additional input.
absl::Status CheckOutputGradient(const DeformConv2DShape& shape, const tensorflow::PartialTensorShape& dy);

}  // namespace dcnv2

#endif  // DCNV2_CC_OPS_DEFORM_CONV2D_ARGUMENTS_H_
