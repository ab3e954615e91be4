#include "cc/kernels/deform_conv_op.h"

#include "cc/kernels/cpu_parallel_for.h"
#include "cc/lib/cpu/deform_conv.h"

namespace dcnv2 {
namespace {

using tensorflow::OpKernelContext;

template <typename T>
class DeformConvCpuOp final : public DeformConvOp<T> {
 public:
  using DeformConvOp<T>::DeformConvOp;

 protected:
  void Forward(OpKernelContext* context, const DeformConvShape& shape, const DeformConvInputs<StorageOf<T>>& inputs,
               StorageOf<T>* y) const override {
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) { DeformConvForward(shape, inputs, y, parallel_for); });
  }
};

template <typename T>
class DeformConvGradCpuOp final : public DeformConvGradOp<T> {
 public:
  using DeformConvGradOp<T>::DeformConvGradOp;

 protected:
  void Backward(OpKernelContext* context, const DeformConvShape& shape, const DeformConvInputs<StorageOf<T>>& inputs,
                const StorageOf<T>* dy, const DeformConvGradients<StorageOf<T>>& gradients) const override {
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformConvBackward(shape, inputs, dy, gradients, parallel_for);
    });
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>ModulatedDeformConv2D")        \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConvCpuOp<T>);                       \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>ModulatedDeformConv2DGrad")    \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConvGradCpuOp<T>)
DCNV2_FOR_EACH_TENSOR_TYPE(DCNV2_REGISTER)
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
