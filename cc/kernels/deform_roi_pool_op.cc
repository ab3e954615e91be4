#include "cc/kernels/cpu_parallel_for.h"
#include "cc/lib/deform_roi_pool_cpu.h"
#include "cc/lib/geometry.h"
#include "cc/ops/roi_pool_arguments.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dcnv2 {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

absl::Status CheckRange(const char* name, const Tensor& values, int64_t end, const char* meaning) {
  const auto flat = values.flat<int32_t>();
  for (int64_t i = 0; i < flat.size(); ++i) {
    if (flat(i) < 0 || flat(i) >= end) {
      return InvalidArgument(name, "[", i, "] is out of range: expected a value in [0, ", end, "), ", meaning,
                             ". Received: ", flat(i));
    }
  }
  return absl::OkStatus();
}

// What forward and gradient have in common: the attributes, and all inputs but dy.
template <typename T>
class DeformRoiPoolOpBase : public OpKernel {
 public:
  explicit DeformRoiPoolOpBase(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &attributes_));
  }

 protected:
  absl::Status ResolveInputs(OpKernelContext* context, RoiPoolSizes* sizes, RoiPoolShape* shape,
                             RoiPoolInputs<T>* inputs) const {
    OpInputList features;
    TF_RETURN_IF_ERROR(context->input_list("features", &features));
    const Tensor *boxes, *box_indices, *levels, *offset, *mask, *spatial_scales, *gamma;
    TF_RETURN_IF_ERROR(context->input("boxes", &boxes));
    TF_RETURN_IF_ERROR(context->input("box_indices", &box_indices));
    TF_RETURN_IF_ERROR(context->input("levels", &levels));
    TF_RETURN_IF_ERROR(context->input("offset", &offset));
    TF_RETURN_IF_ERROR(context->input("mask", &mask));
    TF_RETURN_IF_ERROR(context->input("spatial_scales", &spatial_scales));
    TF_RETURN_IF_ERROR(context->input("gamma", &gamma));

    RoiPoolInputShapes shapes;
    for (const Tensor& map : features) shapes.features.push_back(ToPartialShape(map.shape()));
    shapes.boxes = ToPartialShape(boxes->shape());
    shapes.box_indices = ToPartialShape(box_indices->shape());
    shapes.levels = ToPartialShape(levels->shape());
    shapes.offset = ToPartialShape(offset->shape());
    shapes.mask = ToPartialShape(mask->shape());
    shapes.spatial_scales = ToPartialShape(spatial_scales->shape());
    shapes.gamma = ToPartialShape(gamma->shape());
    TF_RETURN_IF_ERROR(ResolveRoiPoolSizes(attributes_, shapes, sizes));
    TF_RETURN_IF_ERROR(CheckRange("box_indices", *box_indices, sizes->batch, "the batch of features"));
    TF_RETURN_IF_ERROR(CheckRange("levels", *levels, features.size(), "the number of feature levels"));

    *shape = {sizes->batch, sizes->channels, sizes->rois, {}, attributes_.config};
    shape->config.gamma = gamma->scalar<double>()();
    for (int level = 0; level < features.size(); ++level) {
      const TensorShape& map = features[level].shape();
      if (!IsIndexableMap(map.dim_size(1), map.dim_size(2))) {
        return InvalidArgument("features[", level, "] has a side of more than 2^24 pixels or an area of more than ",
                               "2^31 - 1. Received: features[", level, "].shape=", map.DebugString());
      }
      shape->levels.push_back({static_cast<int32_t>(map.dim_size(1)), static_cast<int32_t>(map.dim_size(2)),
                               spatial_scales->vec<double>()(level)});
      inputs->features.push_back(features[level].flat<T>().data());
    }
    inputs->boxes = boxes->flat<T>().data();
    inputs->box_indices = box_indices->flat<int32_t>().data();
    inputs->levels = levels->flat<int32_t>().data();
    inputs->offset = attributes_.use_offset ? offset->flat<T>().data() : nullptr;
    inputs->mask = attributes_.use_mask ? mask->flat<T>().data() : nullptr;
    return absl::OkStatus();
  }

  RoiPoolAttributes attributes_;
};

template <typename T>
class DeformRoiPoolOp : public DeformRoiPoolOpBase<T> {
 public:
  using DeformRoiPoolOpBase<T>::DeformRoiPoolOpBase;

  void Compute(OpKernelContext* context) override {
    RoiPoolSizes sizes;
    RoiPoolShape shape;
    RoiPoolInputs<T> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &sizes, &shape, &inputs));
    TensorShape y_shape;
    OP_REQUIRES_OK(context,
                   TensorShape::BuildTensorShape(
                       {sizes.rois, shape.config.pooled_height, shape.config.pooled_width, sizes.channels}, &y_shape));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, y_shape, &y));
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformRoiPoolForward(shape, inputs, y->flat<T>().data(), parallel_for);
    });
  }
};

template <typename T>
class DeformRoiPoolGradOp : public DeformRoiPoolOpBase<T> {
 public:
  using DeformRoiPoolOpBase<T>::DeformRoiPoolOpBase;

  void Compute(OpKernelContext* context) override {
    RoiPoolSizes sizes;
    RoiPoolShape shape;
    RoiPoolInputs<T> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &sizes, &shape, &inputs));
    const Tensor& dy = context->input(context->num_inputs() - 1);
    OP_REQUIRES_OK(context, CheckOutputGradient(this->attributes_, sizes, ToPartialShape(dy.shape())));
    RoiPoolGradients<T> gradients{{}, nullptr, nullptr};
    const int levels = shape.levels.size();
    const auto allocate = [&](int output_index, int like_input, T** data) {
      Tensor* output = nullptr;
      TF_RETURN_IF_ERROR(context->allocate_output(output_index, context->input(like_input).shape(), &output));
      *data = output->flat<T>().data();
      return absl::OkStatus();
    };
    for (int level = 0; level < levels; ++level) {
      T* map = nullptr;
      OP_REQUIRES_OK(context, allocate(level, level, &map));
      gradients.features.push_back(map);
    }
    // Inputs after the features: boxes, box_indices, levels, offset, mask.
    OP_REQUIRES_OK(context, allocate(levels, levels + 3, &gradients.offset));
    OP_REQUIRES_OK(context, allocate(levels + 1, levels + 4, &gradients.mask));
    if (!this->attributes_.use_offset) gradients.offset = nullptr;
    if (!this->attributes_.use_mask) gradients.mask = nullptr;
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformRoiPoolBackward(shape, inputs, dy.flat<T>().data(), gradients, parallel_for);
    });
  }
};

#define DCNV2_REGISTER(T)                                                                                           \
  REGISTER_KERNEL_BUILDER(                                                                                          \
      Name("Dcnv2>DeformRoiPool").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T").TypeConstraint<T>("C"),     \
      DeformRoiPoolOp<T>);                                                                                          \
  REGISTER_KERNEL_BUILDER(                                                                                          \
      Name("Dcnv2>DeformRoiPoolGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T").TypeConstraint<T>("C"), \
      DeformRoiPoolGradOp<T>)
DCNV2_REGISTER(float);
DCNV2_REGISTER(double);
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
