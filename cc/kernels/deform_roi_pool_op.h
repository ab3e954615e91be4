// What the RoI pooling kernels have in common on every device: attributes, inputs and outputs. The kernels of a device
// derive from these classes and compute.
//
// The inputs spatial_scales and gamma lie in the host's memory. Where box_indices and levels lie is the device's
// matter, and so is looking at them.
#ifndef DCNV2_CC_KERNELS_DEFORM_ROI_POOL_OP_H_
#define DCNV2_CC_KERNELS_DEFORM_ROI_POOL_OP_H_

#include <numeric>
#include <vector>

#include "cc/kernels/storage_types.h"
#include "cc/lib/deform_roi_pool.h"
#include "cc/lib/geometry.h"
#include "cc/ops/deform_roi_pool_arguments.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dcnv2 {

// What forward and gradient have in common: the attributes, and all inputs but dy.
template <typename T>
class DeformRoiPoolOpBase : public tensorflow::OpKernel {
 public:
  explicit DeformRoiPoolOpBase(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &attributes_));
  }

 protected:
  absl::Status ResolveInputs(tensorflow::OpKernelContext* context, DeformRoiPoolSizes* sizes, DeformRoiPoolShape* shape,
                             DeformRoiPoolInputs<StorageOf<T>>* inputs) const {
    tensorflow::OpInputList features;
    TF_RETURN_IF_ERROR(context->input_list("features", &features));
    const tensorflow::Tensor *boxes, *box_indices, *levels, *offset, *mask, *spatial_scales, *gamma;
    TF_RETURN_IF_ERROR(context->input("boxes", &boxes));
    TF_RETURN_IF_ERROR(context->input("box_indices", &box_indices));
    TF_RETURN_IF_ERROR(context->input("levels", &levels));
    TF_RETURN_IF_ERROR(context->input("offset", &offset));
    TF_RETURN_IF_ERROR(context->input("mask", &mask));
    TF_RETURN_IF_ERROR(context->input("spatial_scales", &spatial_scales));
    TF_RETURN_IF_ERROR(context->input("gamma", &gamma));

    DeformRoiPoolInputShapes shapes;
    for (const tensorflow::Tensor& map : features) shapes.features.push_back(ToPartialShape(map.shape()));
    shapes.boxes = ToPartialShape(boxes->shape());
    shapes.box_indices = ToPartialShape(box_indices->shape());
    shapes.levels = ToPartialShape(levels->shape());
    shapes.offset = ToPartialShape(offset->shape());
    shapes.mask = ToPartialShape(mask->shape());
    shapes.spatial_scales = ToPartialShape(spatial_scales->shape());
    shapes.gamma = ToPartialShape(gamma->shape());
    TF_RETURN_IF_ERROR(ResolveDeformRoiPoolSizes(attributes_, shapes, sizes));

    *shape = {sizes->batch, sizes->channels, sizes->rois, {}, attributes_.config};
    shape->config.gamma = gamma->scalar<double>()();
    for (int level = 0; level < features.size(); ++level) {
      const tensorflow::TensorShape& map = features[level].shape();
      if (!IsIndexableMap(map.dim_size(1), map.dim_size(2))) {
        return InvalidArgument("features[", level, "] has a side of more than 2^24 pixels or an area of more than ",
                               "2^31 - 1. Received: features[", level, "].shape=", map.DebugString());
      }
      shape->levels.push_back({static_cast<int32_t>(map.dim_size(1)), static_cast<int32_t>(map.dim_size(2)),
                               spatial_scales->vec<double>()(level)});
      inputs->features.push_back(StoredData<T>(features[level]));
    }
    const auto coordinates = [](const tensorflow::Tensor& tensor) { return tensor.flat<CoordinateOf<T>>().data(); };
    inputs->boxes = coordinates(*boxes);
    inputs->box_indices = box_indices->flat<int32_t>().data();
    inputs->levels = levels->flat<int32_t>().data();
    inputs->offset = attributes_.use_offset ? coordinates(*offset) : nullptr;
    inputs->mask = attributes_.use_mask ? coordinates(*mask) : nullptr;
    return CheckInputs(*shape, *inputs);
  }

  // What else a device asks of the inputs.
  virtual absl::Status CheckInputs(const DeformRoiPoolShape& shape,
                                   const DeformRoiPoolInputs<StorageOf<T>>& inputs) const = 0;

  DeformRoiPoolAttributes attributes_;
};

template <typename T>
class DeformRoiPoolOp : public DeformRoiPoolOpBase<T> {
 public:
  using DeformRoiPoolOpBase<T>::DeformRoiPoolOpBase;

  void Compute(tensorflow::OpKernelContext* context) final {
    DeformRoiPoolSizes sizes;
    DeformRoiPoolShape shape;
    DeformRoiPoolInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &sizes, &shape, &inputs));
    tensorflow::TensorShape y_shape;
    OP_REQUIRES_OK(context,
                   tensorflow::TensorShape::BuildTensorShape(
                       {sizes.rois, shape.config.pooled_height, shape.config.pooled_width, sizes.channels}, &y_shape));
    tensorflow::Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, y_shape, &y));
    Forward(context, shape, inputs, StoredData<T>(y));
  }

 protected:
  virtual void Forward(tensorflow::OpKernelContext* context, const DeformRoiPoolShape& shape,
                       const DeformRoiPoolInputs<StorageOf<T>>& inputs, StorageOf<T>* y) const = 0;
};

template <typename T>
class DeformRoiPoolGradOp : public DeformRoiPoolOpBase<T> {
 public:
  using DeformRoiPoolOpBase<T>::DeformRoiPoolOpBase;

  void Compute(tensorflow::OpKernelContext* context) final {
    DeformRoiPoolSizes sizes;
    DeformRoiPoolShape shape;
    DeformRoiPoolInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &sizes, &shape, &inputs));
    const tensorflow::Tensor& dy = context->input(context->num_inputs() - 1);
    OP_REQUIRES_OK(context, CheckOutputGradient(this->attributes_, sizes, ToPartialShape(dy.shape())));
    const int levels = shape.levels.size();
    // Inputs after the features: boxes, box_indices, levels, offset, mask.
    std::vector<int> like(levels);
    std::iota(like.begin(), like.end(), 0);
    like.insert(like.end(), {levels + 3, levels + 4});
    std::vector<tensorflow::Tensor*> outputs(like.size());
    for (size_t i = 0; i < like.size(); ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, context->input(like[i]).shape(), &outputs[i]));
    }
    const auto coordinates = [&outputs](int index) { return outputs[index]->template flat<CoordinateOf<T>>().data(); };
    DeformRoiPoolGradients<StorageOf<T>> gradients{{},
                                                   this->attributes_.use_offset ? coordinates(levels) : nullptr,
                                                   this->attributes_.use_mask ? coordinates(levels + 1) : nullptr};
    for (int level = 0; level < levels; ++level) gradients.features.push_back(StoredData<T>(outputs[level]));
    Backward(context, shape, inputs, StoredData<T>(dy), gradients);
  }

 protected:
  virtual void Backward(tensorflow::OpKernelContext* context, const DeformRoiPoolShape& shape,
                        const DeformRoiPoolInputs<StorageOf<T>>& inputs, const StorageOf<T>* dy,
                        const DeformRoiPoolGradients<StorageOf<T>>& gradients) const = 0;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_KERNELS_DEFORM_ROI_POOL_OP_H_
