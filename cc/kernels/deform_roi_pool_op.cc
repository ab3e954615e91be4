#include <numeric>
#include <vector>

#include "cc/kernels/cpu_parallel_for.h"
#include "cc/kernels/storage_types.h"
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
                             RoiPoolInputs<StorageOf<T>>* inputs) const {
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
      inputs->features.push_back(StoredData<T>(features[level]));
    }
    const auto coordinates = [](const Tensor& tensor) { return tensor.flat<CoordinateOf<T>>().data(); };
    inputs->boxes = coordinates(*boxes);
    inputs->box_indices = box_indices->flat<int32_t>().data();
    inputs->levels = levels->flat<int32_t>().data();
    inputs->offset = attributes_.use_offset ? coordinates(*offset) : nullptr;
    inputs->mask = attributes_.use_mask ? coordinates(*mask) : nullptr;
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
    RoiPoolInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &sizes, &shape, &inputs));
    TensorShape y_shape;
    OP_REQUIRES_OK(context,
                   TensorShape::BuildTensorShape(
                       {sizes.rois, shape.config.pooled_height, shape.config.pooled_width, sizes.channels}, &y_shape));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, y_shape, &y));
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformRoiPoolForward(shape, inputs, StoredData<T>(y), parallel_for);
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
    RoiPoolInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &sizes, &shape, &inputs));
    const Tensor& dy = context->input(context->num_inputs() - 1);
    OP_REQUIRES_OK(context, CheckOutputGradient(this->attributes_, sizes, ToPartialShape(dy.shape())));
    const int levels = shape.levels.size();
    // Inputs after the features: boxes, box_indices, levels, offset, mask.
    std::vector<int> like(levels);
    std::iota(like.begin(), like.end(), 0);
    like.insert(like.end(), {levels + 3, levels + 4});
    std::vector<Tensor*> outputs(like.size());
    for (size_t i = 0; i < like.size(); ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, context->input(like[i]).shape(), &outputs[i]));
    }
    const auto coordinates = [&outputs](int index) { return outputs[index]->template flat<CoordinateOf<T>>().data(); };
    RoiPoolGradients<StorageOf<T>> gradients{{},
                                             this->attributes_.use_offset ? coordinates(levels) : nullptr,
                                             this->attributes_.use_mask ? coordinates(levels + 1) : nullptr};
    for (int level = 0; level < levels; ++level) gradients.features.push_back(StoredData<T>(outputs[level]));
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformRoiPoolBackward(shape, inputs, StoredData<T>(dy), gradients, parallel_for);
    });
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformRoiPool")                \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformRoiPoolOp<T>);                       \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformRoiPoolGrad")            \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformRoiPoolGradOp<T>)
DCNV2_REGISTER(Eigen::half);
DCNV2_REGISTER(tensorflow::bfloat16);
DCNV2_REGISTER(float);
DCNV2_REGISTER(double);
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
