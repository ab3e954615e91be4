// What the deformable convolution's kernels have in common on every device: attributes, inputs and outputs. The kernels
// of a device derive from these classes and compute.
#ifndef DCNV2_CC_KERNELS_DEFORM_CONV2D_OP_H_
#define DCNV2_CC_KERNELS_DEFORM_CONV2D_OP_H_

#include <string>

#include "cc/kernels/storage_types.h"
#include "cc/lib/deform_conv2d.h"
#include "cc/ops/deform_conv2d_arguments.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dcnv2 {

// What forward and gradient have in common: the attributes, and inputs x, kernel, offset and mask.
template <typename T>
class DeformConv2DOpBase : public tensorflow::OpKernel {
 public:
  explicit DeformConv2DOpBase(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &attributes_));
  }

 protected:
  absl::Status ResolveInputs(tensorflow::OpKernelContext* context, DeformConv2DShape* shape,
                             DeformConv2DInputs<StorageOf<T>>* inputs) const {
    TF_RETURN_IF_ERROR(ResolveDeformConv2DShape(
        attributes_, ToPartialShape(context->input(0).shape()), ToPartialShape(context->input(1).shape()),
        ToPartialShape(context->input(2).shape()), ToPartialShape(context->input(3).shape()), shape));
    const std::string problem = CheckIndexable(*shape);
    if (!problem.empty()) {
      return InvalidArgument(problem, ". Received: x.shape=", context->input(0).shape().DebugString());
    }
    const auto stored = [context](int index) { return StoredData<T>(context->input(index)); };
    const auto coordinates = [context](int index) {
      return context->input(index).template flat<CoordinateOf<T>>().data();
    };
    *inputs = {stored(0), stored(1), coordinates(2), attributes_.use_mask ? coordinates(3) : nullptr};
    return absl::OkStatus();
  }

  DeformConv2DAttributes attributes_;
};

template <typename T>
class DeformConv2DOp : public DeformConv2DOpBase<T> {
 public:
  using DeformConv2DOpBase<T>::DeformConv2DOpBase;

  void Compute(tensorflow::OpKernelContext* context) final {
    DeformConv2DShape shape;
    DeformConv2DInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &shape, &inputs));
    tensorflow::TensorShape y_shape;
    OP_REQUIRES_OK(context, tensorflow::TensorShape::BuildTensorShape(
                                {shape.batch, shape.out_height, shape.out_width, shape.out_channels}, &y_shape));
    tensorflow::Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, y_shape, &y));
    Forward(context, shape, inputs, StoredData<T>(y));
  }

 protected:
  virtual void Forward(tensorflow::OpKernelContext* context, const DeformConv2DShape& shape,
                       const DeformConv2DInputs<StorageOf<T>>& inputs, StorageOf<T>* y) const = 0;
};

template <typename T>
class DeformConv2DGradOp : public DeformConv2DOpBase<T> {
 public:
  using DeformConv2DOpBase<T>::DeformConv2DOpBase;

  void Compute(tensorflow::OpKernelContext* context) final {
    DeformConv2DShape shape;
    DeformConv2DInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &shape, &inputs));
    const tensorflow::Tensor& dy = context->input(4);
    OP_REQUIRES_OK(context, CheckOutputGradient(shape, ToPartialShape(dy.shape())));
    tensorflow::Tensor* outputs[4];
    for (int i = 0; i < 4; ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, context->input(i).shape(), &outputs[i]));
    }
    const auto coordinates = [&outputs](int index) { return outputs[index]->template flat<CoordinateOf<T>>().data(); };
    const DeformConv2DGradients<StorageOf<T>> gradients{StoredData<T>(outputs[0]), StoredData<T>(outputs[1]),
                                                        coordinates(2),
                                                        this->attributes_.use_mask ? coordinates(3) : nullptr};
    Backward(context, shape, inputs, StoredData<T>(dy), gradients);
  }

 protected:
  virtual void Backward(tensorflow::OpKernelContext* context, const DeformConv2DShape& shape,
                        const DeformConv2DInputs<StorageOf<T>>& inputs, const StorageOf<T>* dy,
                        const DeformConv2DGradients<StorageOf<T>>& gradients) const = 0;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_KERNELS_DEFORM_CONV2D_OP_H_
