#include "cc/ops/deform_conv2d_arguments.h"
#include "tensorflow/core/framework/op.h"

namespace dcnv2 {
namespace {

using tensorflow::shape_inference::InferenceContext;

absl::Status ResolveInputs(InferenceContext* context, DeformConv2DShape* shape) {
  DeformConv2DAttributes attributes;
  TF_RETURN_IF_ERROR(ReadAttributes(context, &attributes));
  return ResolveDeformConv2DShape(
      attributes, ToPartialShape(context, context->input(0)), ToPartialShape(context, context->input(1)),
      ToPartialShape(context, context->input(2)), ToPartialShape(context, context->input(3)), shape);
}

absl::Status ForwardShape(InferenceContext* context) {
  DeformConv2DShape shape;
  TF_RETURN_IF_ERROR(ResolveInputs(context, &shape));
  SetOutput(context, 0, {shape.batch, shape.out_height, shape.out_width, shape.out_channels});
  return absl::OkStatus();
}

absl::Status GradientShape(InferenceContext* context) {
  DeformConv2DShape shape;
  TF_RETURN_IF_ERROR(ResolveInputs(context, &shape));
  TF_RETURN_IF_ERROR(CheckOutputGradient(shape, ToPartialShape(context, context->input(4))));
  for (int i = 0; i < 4; ++i) context->set_output(i, context->input(i));
  return absl::OkStatus();
}

REGISTER_OP("Dcnv2>DeformConv2D")
    .Input("x: T")
    .Input("kernel: T")
    .Input("offset: C")
    .Input("mask: C")
    .Output("y: T")
    .Attr("T: {half, bfloat16, float, double}")
    .Attr("C: {float, double}")
    .Attr("use_mask: bool")
    .Attr("strides: list(int)")
    .Attr("padding: {'SAME', 'VALID', 'EXPLICIT'}")
    .Attr("explicit_paddings: list(int) = []")
    .Attr("dilations: list(int)")
    .Attr("deformable_groups: int >= 1")
    .SetShapeFn(ForwardShape)
    .Doc(R"doc(
Modulated deformable convolution: y(p) = sum_k w_k x(p + p_k + offset_k) mask_k.

Equation 1 of "Deformable ConvNets v2" (arXiv:1811.11168). x is sampled bilinearly with zeros outside the map; a sample
at or beyond -1, the height or the width is zero and has no gradient. An infinite offset samples outside; a NaN offset
makes the outputs it feeds NaN. The result does not depend on the number of threads. On a GPU float32 factors may be
rounded to TF32 where TensorFlow's own switch allows it, samples of 16-bit tensors are rounded to 16 bits, and what is
not finite may reach the outputs of other groups.

x: [batch, height, width, channels].
kernel: [kernel_height, kernel_width, channels / groups, out_channels]; `groups` follows from the shapes.
offset: [batch, out_height, out_width, deformable_groups * taps * 2], (row, column) displacement of each tap, in pixels of
  x, taps in row-major order.
mask: [batch, out_height, out_width, deformable_groups * taps]; shape [0] unless `use_mask`.
y: [batch, out_height, out_width, out_channels].
C: type of the sampling positions, and of sums: float unless T is double.
use_mask: false for deformable convolution v1, where every mask is one.
strides: (height, width).
padding: SAME follows TensorFlow's own rule.
explicit_paddings: (top, bottom, left, right) with padding EXPLICIT, otherwise empty.
dilations: (height, width).
deformable_groups: group g of the offsets moves the channels [g * channels / deformable_groups, ...).
)doc");

REGISTER_OP("Dcnv2>DeformConv2DGrad")
    .Input("x: T")
    .Input("kernel: T")
    .Input("offset: C")
    .Input("mask: C")
    .Input("dy: T")
    .Output("dx: T")
    .Output("dkernel: T")
    .Output("doffset: C")
    .Output("dmask: C")
    .Attr("T: {half, bfloat16, float, double}")
    .Attr("C: {float, double}")
    .Attr("use_mask: bool")
    .Attr("strides: list(int)")
    .Attr("padding: {'SAME', 'VALID', 'EXPLICIT'}")
    .Attr("explicit_paddings: list(int) = []")
    .Attr("dilations: list(int)")
    .Attr("deformable_groups: int >= 1")
    .SetShapeFn(GradientShape)
    .Doc(R"doc(
Gradients of Dcnv2>DeformConv2D with respect to its four inputs.

Inputs and attributes are those of the forward op. At integer positions the gradient with respect to the offset is the
right-hand one. A NaN offset has NaN gradients of its own and contributes nothing to dx. On a GPU dx is summed in any
order, but under TensorFlow's op determinism in a fixed one.

dy: gradient with respect to y.
dx: like x.
dkernel: like kernel.
doffset: like offset.
dmask: like mask; shape [0] unless `use_mask`.
)doc");

}  // namespace
}  // namespace dcnv2
