#include "cc/ops/deform_conv2d_arguments.h"

#include <limits>

#include "absl/strings/str_join.h"

namespace dcnv2 {
namespace {

using tensorflow::PartialTensorShape;

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

std::string ListString(const std::vector<int64_t>& values) {
  return absl::StrCat("[", absl::StrJoin(values, ", "), "]");
}

absl::Status ResolveKernel(const PartialTensorShape& kernel, DeformConv2DShape* shape) {
  TF_RETURN_IF_ERROR(CheckRank("kernel", kernel, 4, "[height, width, in_channels / groups, out_channels]"));
  static const char* const kAxes[] = {"a height", "a width", "an input channel", "an output channel"};
  for (int axis = 0; axis < 4; ++axis) {
    if (DimensionOrUnknown(kernel, axis) == 0) {
      return InvalidArgument(
          "kernel must have at least ", kAxes[axis],
          axis < 2 ? " of one. Received: kernel.shape=" : ". Received: kernel.shape=", kernel.DebugString());
    }
  }
  shape->kernel_height = DimensionOrUnknown(kernel, 0);
  shape->kernel_width = DimensionOrUnknown(kernel, 1);
  shape->out_channels = DimensionOrUnknown(kernel, 3);
  return absl::OkStatus();
}

// groups = x channels / kernel input channels.
absl::Status ResolveGroups(const PartialTensorShape& x, const PartialTensorShape& kernel, DeformConv2DShape* shape) {
  const int64_t in_channels = shape->in_channels;
  const int64_t group_channels = DimensionOrUnknown(kernel, 2);
  shape->groups = kUnknown;
  if (in_channels == 0) return InvalidArgument("x must have channels. Received: x.shape=", x.DebugString());
  if (in_channels != kUnknown && in_channels % shape->deformable_groups != 0) {
    return InvalidArgument("deformable_groups must divide the channels of x. Received: deformable_groups=",
                           shape->deformable_groups, ", x.shape=", x.DebugString());
  }
  if (in_channels == kUnknown || group_channels == kUnknown) return absl::OkStatus();
  if (in_channels % group_channels != 0) {
    return InvalidArgument("The channels of x must be a multiple of kernel's input channels (axis 2), expected ",
                           in_channels, " / groups. Received: x.shape=", x.DebugString(),
                           ", kernel.shape=", kernel.DebugString());
  }
  shape->groups = in_channels / group_channels;
  if (shape->out_channels != kUnknown && shape->out_channels % shape->groups != 0) {
    return InvalidArgument("The output channels of kernel (axis 3) must be a multiple of the ", shape->groups,
                           " groups, which follow from x and kernel. Received: x.shape=", x.DebugString(),
                           ", kernel.shape=", kernel.DebugString());
  }
  return absl::OkStatus();
}

// Output sizes and the padding before, as far as known.
absl::Status ResolveWindow(const DeformConv2DAttributes& attributes, const PartialTensorShape& x,
                           const PartialTensorShape& kernel, DeformConv2DShape* shape) {
  const auto resolve = [&](const char* axis, int64_t in_size, int64_t kernel_size, int64_t stride, int64_t dilation,
                           int64_t before, int64_t after, int64_t* out_size, int64_t* padding) {
    *out_size = *padding = kUnknown;
    if (in_size == kUnknown || kernel_size == kUnknown) return absl::OkStatus();
    WindowExtent extent;
    if (!ComputeWindowExtent(in_size, kernel_size, stride, dilation, attributes.padding, before, after, &extent)) {
      return absl::Status(InvalidArgument(
          "kernel with dilations does not fit the padded ", axis, " of x. Received: x.shape=", x.DebugString(),
          ", kernel.shape=", kernel.DebugString(), ", dilation ", dilation, ", padding ", before, " and ", after,
          ", expected ", axis, " + padding >= (kernel ", axis, " - 1) * dilation + 1"));
    }
    *out_size = extent.out_size;
    *padding = extent.padding_before;
    return absl::OkStatus();
  };
  const int64_t* pads = attributes.explicit_paddings;
  TF_RETURN_IF_ERROR(resolve("height", shape->in_height, shape->kernel_height, shape->stride.height,
                             shape->dilation.height, pads[0], pads[1], &shape->out_height,
                             &shape->padding_before.height));
  return resolve("width", shape->in_width, shape->kernel_width, shape->stride.width, shape->dilation.width, pads[2],
                 pads[3], &shape->out_width, &shape->padding_before.width);
}

// `status` with what the sizes of the output follow from.
absl::Status ExplainOutputSize(const absl::Status& status, const DeformConv2DAttributes& attributes,
                               const PartialTensorShape& x, const PartialTensorShape& kernel) {
  if (status.ok()) return status;
  static const char* const kPaddings[] = {"VALID", "SAME", "EXPLICIT"};
  const int64_t* pads = attributes.explicit_paddings;
  return InvalidArgument(
      status.message(), ", x.shape=", x.DebugString(), ", kernel.shape=", kernel.DebugString(),
      ", strides=", ListString({attributes.stride.height, attributes.stride.width}),
      ", dilations=", ListString({attributes.dilation.height, attributes.dilation.width}),
      ", padding=", kPaddings[static_cast<int>(attributes.padding)],
      attributes.padding == Padding::kExplicit ? " " + ListString({pads[0], pads[1], pads[2], pads[3]}) : "");
}

// Offset or mask: [batch, out_height, out_width, factor * deformable_groups * taps].
absl::Status ResolveSamples(const char* name, const PartialTensorShape& samples, int64_t factor,
                            const DeformConv2DAttributes& attributes, const PartialTensorShape& x,
                            const PartialTensorShape& kernel, DeformConv2DShape* shape) {
  TF_RETURN_IF_ERROR(CheckRank(name, samples, 4, "[batch, out_height, out_width, channels]"));
  TF_RETURN_IF_ERROR(CheckDimension(name, samples, 0, shape->batch, "the batch of x"));
  TF_RETURN_IF_ERROR(ExplainOutputSize(CheckDimension(name, samples, 1, shape->out_height, "the output height"),
                                       attributes, x, kernel));
  TF_RETURN_IF_ERROR(
      ExplainOutputSize(CheckDimension(name, samples, 2, shape->out_width, "the output width"), attributes, x, kernel));
  shape->batch = KnownOf(shape->batch, DimensionOrUnknown(samples, 0));
  shape->out_height = KnownOf(shape->out_height, DimensionOrUnknown(samples, 1));
  shape->out_width = KnownOf(shape->out_width, DimensionOrUnknown(samples, 2));
  if (shape->kernel_height == kUnknown || shape->kernel_width == kUnknown) return absl::OkStatus();
  int64_t expected;
  if (!CheckedProduct({factor, shape->deformable_groups, shape->kernel_height, shape->kernel_width}, &expected)) {
    return InvalidArgument("deformable_groups is too large. Received: ", shape->deformable_groups);
  }
  const int64_t received = DimensionOrUnknown(samples, 3);
  if (!CertainlyDiffers(received, expected)) return absl::OkStatus();
  return InvalidArgument(name, " has ", received, " channels, but a ", shape->kernel_height, "x", shape->kernel_width,
                         " kernel with ", shape->deformable_groups, " deformable group",
                         shape->deformable_groups == 1 ? "" : "s", " needs ", factor == 2 ? "2*" : "", shape->taps(),
                         "*", shape->deformable_groups, " = ", expected, ". Received: ", name,
                         ".shape=", samples.DebugString(), ", kernel.shape=", kernel.DebugString());
}

}  // namespace

absl::Status CheckWindow(const char* name, const std::vector<int64_t>& values, Window2D* window) {
  if (values.size() != 2 || values[0] < 1 || values[1] < 1 || values[0] > kMaxInt32 || values[1] > kMaxInt32) {
    return InvalidArgument(name, " must be two positive integers, (height, width). Received: ", name, "=",
                           ListString(values));
  }
  *window = {values[0], values[1]};
  return absl::OkStatus();
}

absl::Status CheckPadding(const std::string& padding, const std::vector<int64_t>& explicit_paddings,
                          DeformConv2DAttributes* attributes) {
  if (attributes->deformable_groups < 1) {
    return InvalidArgument("deformable_groups must be at least 1. Received: ", attributes->deformable_groups);
  }
  attributes->padding = padding == "SAME" ? Padding::kSame : padding == "VALID" ? Padding::kValid : Padding::kExplicit;
  const size_t expected = attributes->padding == Padding::kExplicit ? 4 : 0;
  bool valid = explicit_paddings.size() == expected;
  for (int64_t value : explicit_paddings) valid = valid && value >= 0 && value <= kMaxInt32;
  if (!valid) {
    return InvalidArgument("explicit_paddings must be ", expected == 4 ? "four non-negative integers" : "empty",
                           " with padding=", padding,
                           ", (top, bottom, left, right). Received: explicit_paddings=", ListString(explicit_paddings));
  }
  for (size_t i = 0; i < expected; ++i) attributes->explicit_paddings[i] = explicit_paddings[i];
  return absl::OkStatus();
}

absl::Status ResolveDeformConv2DShape(const DeformConv2DAttributes& attributes, const PartialTensorShape& x,
                                      const PartialTensorShape& kernel, const PartialTensorShape& offset,
                                      const PartialTensorShape& mask, DeformConv2DShape* shape) {
  TF_RETURN_IF_ERROR(CheckRank("x", x, 4, "[batch, height, width, channels]"));
  shape->batch = DimensionOrUnknown(x, 0);
  shape->in_height = DimensionOrUnknown(x, 1);
  shape->in_width = DimensionOrUnknown(x, 2);
  shape->in_channels = DimensionOrUnknown(x, 3);
  shape->stride = attributes.stride;
  shape->dilation = attributes.dilation;
  shape->deformable_groups = attributes.deformable_groups;
  TF_RETURN_IF_ERROR(ResolveKernel(kernel, shape));
  TF_RETURN_IF_ERROR(ResolveGroups(x, kernel, shape));
  TF_RETURN_IF_ERROR(ResolveWindow(attributes, x, kernel, shape));
  TF_RETURN_IF_ERROR(ResolveSamples("offset", offset, 2, attributes, x, kernel, shape));
  if (attributes.use_mask) return ResolveSamples("mask", mask, 1, attributes, x, kernel, shape);
  return CheckUnused("mask", "use_mask", mask);
}

absl::Status CheckOutputGradient(const DeformConv2DShape& shape, const PartialTensorShape& dy) {
  TF_RETURN_IF_ERROR(CheckRank("dy", dy, 4, "[batch, out_height, out_width, out_channels]"));
  TF_RETURN_IF_ERROR(CheckDimension("dy", dy, 0, shape.batch, "the batch of x"));
  TF_RETURN_IF_ERROR(CheckDimension("dy", dy, 1, shape.out_height, "the output height"));
  TF_RETURN_IF_ERROR(CheckDimension("dy", dy, 2, shape.out_width, "the output width"));
  return CheckDimension("dy", dy, 3, shape.out_channels, "the output channels of kernel");
}

}  // namespace dcnv2
