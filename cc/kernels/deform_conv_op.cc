#include "cc/kernels/cpu_parallel_for.h"
#include "cc/kernels/storage_types.h"
#include "cc/lib/deform_conv_cpu.h"
#include "cc/ops/deform_conv_arguments.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dcnv2 {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// What forward and gradient have in common: the attributes, and inputs x, kernel, offset and mask.
template <typename T>
class DeformConvOpBase : public OpKernel {
 public:
  explicit DeformConvOpBase(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &attributes_));
  }

 protected:
  absl::Status ResolveInputs(OpKernelContext* context, DeformConvShape* shape,
                             DeformConvInputs<StorageOf<T>>* inputs) const {
    TF_RETURN_IF_ERROR(ResolveDeformConvShape(
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
    *inputs = {stored(0), stored(1), coordinates(2), attributes_.modulated ? coordinates(3) : nullptr};
    return absl::OkStatus();
  }

  DeformConvAttributes attributes_;
};

template <typename T>
class DeformConvOp : public DeformConvOpBase<T> {
 public:
  using DeformConvOpBase<T>::DeformConvOpBase;

  void Compute(OpKernelContext* context) override {
    DeformConvShape shape;
    DeformConvInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &shape, &inputs));
    TensorShape y_shape;
    OP_REQUIRES_OK(context, TensorShape::BuildTensorShape(
                                {shape.batch, shape.out_height, shape.out_width, shape.out_channels}, &y_shape));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, y_shape, &y));
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformConvForward(shape, inputs, StoredData<T>(y), parallel_for);
    });
  }
};

template <typename T>
class DeformConvGradOp : public DeformConvOpBase<T> {
 public:
  using DeformConvOpBase<T>::DeformConvOpBase;

  void Compute(OpKernelContext* context) override {
    DeformConvShape shape;
    DeformConvInputs<StorageOf<T>> inputs;
    OP_REQUIRES_OK(context, this->ResolveInputs(context, &shape, &inputs));
    const Tensor& dy = context->input(4);
    OP_REQUIRES_OK(context, CheckOutputGradient(shape, ToPartialShape(dy.shape())));
    Tensor* outputs[4];
    for (int i = 0; i < 4; ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, context->input(i).shape(), &outputs[i]));
    }
    const auto coordinates = [&outputs](int index) { return outputs[index]->template flat<CoordinateOf<T>>().data(); };
    const DeformConvGradients<StorageOf<T>> gradients{StoredData<T>(outputs[0]), StoredData<T>(outputs[1]),
                                                      coordinates(2),
                                                      this->attributes_.modulated ? coordinates(3) : nullptr};
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformConvBackward(shape, inputs, StoredData<T>(dy), gradients, parallel_for);
    });
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>ModulatedDeformConv2D")        \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConvOp<T>);                          \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>ModulatedDeformConv2DGrad")    \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConvGradOp<T>)
DCNV2_REGISTER(Eigen::half);
DCNV2_REGISTER(tensorflow::bfloat16);
DCNV2_REGISTER(float);
DCNV2_REGISTER(double);
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
