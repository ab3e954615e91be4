#include "cc/kernels/deform_conv_op.h"
#include "cc/kernels/gpu_launch.h"
#include "cc/lib/gpu/deform_conv.h"

namespace dcnv2 {
namespace {

using tensorflow::OpKernelContext;

template <typename T>
class DeformConvGpuOp final : public DeformConvOp<T> {
 public:
  using DeformConvOp<T>::DeformConvOp;

 protected:
  void Forward(OpKernelContext* context, const DeformConvShape& shape, const DeformConvInputs<StorageOf<T>>& inputs,
               StorageOf<T>* y) const override {
    const cudaError_t error = DeformConvForwardGpu(shape, inputs, y, OptionsOfTensorFlow(), StreamOf(context));
    OP_REQUIRES_OK(context, LaunchStatus(*context, error));
  }
};

template <typename T>
class DeformConvGradGpuOp final : public DeformConvGradOp<T> {
 public:
  using DeformConvGradOp<T>::DeformConvGradOp;

 protected:
  void Backward(OpKernelContext* context, const DeformConvShape& shape, const DeformConvInputs<StorageOf<T>>& inputs,
                const StorageOf<T>* dy, const DeformConvGradients<StorageOf<T>>& gradients) const override {
    const GpuOptions options = OptionsOfTensorFlow();
    tensorflow::Tensor owner;
    void* workspace;
    OP_REQUIRES_OK(context, AllocateWorkspace(context, DeformConvBackwardGpuWorkspace<StorageOf<T>>(shape, options),
                                              &owner, &workspace));
    const cudaError_t error =
        DeformConvBackwardGpu(shape, inputs, dy, gradients, workspace, options, StreamOf(context));
    OP_REQUIRES_OK(context, LaunchStatus(*context, error));
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>ModulatedDeformConv2D")        \
                              .Device(tensorflow::DEVICE_GPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConvGpuOp<T>);                       \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>ModulatedDeformConv2DGrad")    \
                              .Device(tensorflow::DEVICE_GPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConvGradGpuOp<T>)
DCNV2_FOR_EACH_TENSOR_TYPE(DCNV2_REGISTER)
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
