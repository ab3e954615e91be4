#include "cc/kernels/deform_conv2d_op.h"

#include "cc/kernels/cpu_parallel_for.h"
#include "cc/lib/cpu/conv/deform_conv2d.h"

namespace dcnv2 {
namespace {

using tensorflow::OpKernelContext;

template <typename T>
class DeformConv2DCpuOp final : public DeformConv2DOp<T> {
 public:
  using DeformConv2DOp<T>::DeformConv2DOp;

 protected:
  void Forward(OpKernelContext* context, const DeformConv2DShape& shape, const DeformConv2DInputs<StorageOf<T>>& inputs,
               StorageOf<T>* y) const override {
    RunOnCpuPool(context,
                 [&](const ParallelFor& parallel_for) { DeformConv2DForward(shape, inputs, y, parallel_for); });
  }
};

template <typename T>
class DeformConv2DGradCpuOp final : public DeformConv2DGradOp<T> {
 public:
  using DeformConv2DGradOp<T>::DeformConv2DGradOp;

 protected:
  void Backward(OpKernelContext* context, const DeformConv2DShape& shape,
                const DeformConv2DInputs<StorageOf<T>>& inputs, const StorageOf<T>* dy,
                const DeformConv2DGradients<StorageOf<T>>& gradients) const override {
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformConv2DBackward(shape, inputs, dy, gradients, parallel_for);
    });
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformConv2D")                 \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConv2DCpuOp<T>);                     \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformConv2DGrad")             \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConv2DGradCpuOp<T>)
DCNV2_FOR_EACH_TENSOR_TYPE(DCNV2_REGISTER)
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
