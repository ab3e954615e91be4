#include "cc/ops/deform_roi_pool_arguments.h"
#include "tensorflow/core/framework/op.h"

namespace dcnv2 {
namespace {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status ResolveInputs(InferenceContext* context, DeformRoiPoolAttributes* attributes, DeformRoiPoolSizes* sizes) {
  TF_RETURN_IF_ERROR(ReadAttributes(context, attributes));
  DeformRoiPoolInputShapes inputs;
  std::vector<ShapeHandle> features;
  TF_RETURN_IF_ERROR(context->input("features", &features));
  for (const ShapeHandle& map : features) inputs.features.push_back(ToPartialShape(context, map));
  int next = features.size();
  for (tensorflow::PartialTensorShape* shape : {&inputs.boxes, &inputs.box_indices, &inputs.levels, &inputs.offset,
                                                &inputs.mask, &inputs.spatial_scales, &inputs.gamma}) {
    *shape = ToPartialShape(context, context->input(next++));
  }
  return ResolveDeformRoiPoolSizes(*attributes, inputs, sizes);
}

absl::Status ForwardShape(InferenceContext* context) {
  DeformRoiPoolAttributes attributes;
  DeformRoiPoolSizes sizes;
  TF_RETURN_IF_ERROR(ResolveInputs(context, &attributes, &sizes));
  SetOutput(context, 0, {sizes.rois, attributes.config.pooled_height, attributes.config.pooled_width, sizes.channels});
  return absl::OkStatus();
}

absl::Status GradientShape(InferenceContext* context) {
  DeformRoiPoolAttributes attributes;
  DeformRoiPoolSizes sizes;
  TF_RETURN_IF_ERROR(ResolveInputs(context, &attributes, &sizes));
  const int last = context->num_inputs() - 1;
  TF_RETURN_IF_ERROR(CheckOutputGradient(attributes, sizes, ToPartialShape(context, context->input(last))));
  const int levels = context->num_outputs() - 2;
  for (int level = 0; level < levels; ++level) context->set_output(level, context->input(level));
  // After the features come boxes, box_indices and levels, then offset and mask.
  context->set_output(levels, context->input(levels + 3));
  context->set_output(levels + 1, context->input(levels + 4));
  return absl::OkStatus();
}

REGISTER_OP("Dcnv2>DeformRoiPool")
    .Input("features: L * T")
    .Input("boxes: C")
    .Input("box_indices: int32")
    .Input("levels: int32")
    .Input("offset: C")
    .Input("mask: C")
    .Input("spatial_scales: double")
    .Input("gamma: double")
    .Output("y: T")
    .Attr("L: int >= 1")
    .Attr("T: {half, bfloat16, float, double}")
    .Attr("C: {float, double}")
    .Attr("use_offset: bool")
    .Attr("use_mask: bool")
    .Attr("output_size: list(int)")
    .Attr("sampling_ratio: int >= 0")
    .Attr("convention: {'aligned', 'mxnet'}")
    .SetShapeFn(ForwardShape)
    .Doc(R"doc(
(Modulated) deformable RoI pooling: y(k) = mask_k / n_k * sum_j x(p_kj + offset_k).

Equation 2 of "Deformable ConvNets v2" (arXiv:1811.11168). Each RoI is pooled from its own feature level. Without offset
and mask and with convention "aligned" this is RoIAlign(aligned=True). There is no gradient with respect to the boxes. A
box or offset that is NaN makes the outputs it feeds NaN. The result does not depend on the number of threads. On a GPU
there are at most 16 levels, and a RoI whose box_indices or levels is out of range is no error, but NaN.

features: one map [batch, height, width, channels] per level.
boxes: [rois, 4], (y1, x1, y2, x2) in pixels of the network image.
box_indices: [rois], the image of each RoI, in [0, batch).
levels: [rois], the feature level of each RoI, in [0, L).
offset: [rois, output_height, output_width, 2], (row, column), in units of gamma * RoI size; shape [0] unless
  `use_offset`.
mask: [rois, output_height, output_width]; shape [0] unless `use_mask`.
spatial_scales: [L], feature pixels per image pixel of each level.
gamma: scalar, the unit of the offsets.
y: [rois, output_height, output_width, channels].
C: type of the boxes and sampling positions, and of sums: float unless T is double.
output_size: (height, width) in bins.
sampling_ratio: samples per bin and axis; 0 takes as many as the bin has feature pixels, rounded up (convention
  "aligned").
convention: "aligned", or "mxnet" for the original DeformablePSROIPooling with group size one.
)doc");

REGISTER_OP("Dcnv2>DeformRoiPoolGrad")
    .Input("features: L * T")
    .Input("boxes: C")
    .Input("box_indices: int32")
    .Input("levels: int32")
    .Input("offset: C")
    .Input("mask: C")
    .Input("spatial_scales: double")
    .Input("gamma: double")
    .Input("dy: T")
    .Output("dfeatures: L * T")
    .Output("doffset: C")
    .Output("dmask: C")
    .Attr("L: int >= 1")
    .Attr("T: {half, bfloat16, float, double}")
    .Attr("C: {float, double}")
    .Attr("use_offset: bool")
    .Attr("use_mask: bool")
    .Attr("output_size: list(int)")
    .Attr("sampling_ratio: int >= 0")
    .Attr("convention: {'aligned', 'mxnet'}")
    .SetShapeFn(GradientShape)
    .Doc(R"doc(
Gradients of Dcnv2>DeformRoiPool with respect to features, offset and mask.

Inputs and attributes are those of the forward op. Positions that the border rule clamps or skips have no gradient with
respect to the offset; a NaN position contributes nothing to dfeatures. On a GPU dfeatures is summed in any order, but
under TensorFlow's op determinism in a fixed one, and a RoI whose box_indices or levels is out of range has gradients
that are NaN with respect to its offset and mask, and contributes nothing to dfeatures.

dy: gradient with respect to y.
dfeatures: like features.
doffset: like offset.
dmask: like mask.
)doc");

}  // namespace
}  // namespace dcnv2
