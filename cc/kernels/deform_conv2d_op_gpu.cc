#include "cc/kernels/deform_conv2d_op.h"
#include "cc/kernels/gpu_launch.h"
#include "cc/lib/gpu/conv/deform_conv2d.h"

namespace dcnv2 {
namespace {

using tensorflow::OpKernelContext;

template <typename T>
class DeformConv2DGpuOp final : public DeformConv2DOp<T> {
 public:
  using DeformConv2DOp<T>::DeformConv2DOp;

 protected:
  void Forward(OpKernelContext* context, const DeformConv2DShape& shape, const DeformConv2DInputs<StorageOf<T>>& inputs,
               StorageOf<T>* y) const override {
    const GpuOptions options = OptionsOfTensorFlow();
    tensorflow::Tensor owner;
    void* workspace;
    OP_REQUIRES_OK(context, AllocateWorkspace(context, DeformConv2DForwardGpuWorkspace<StorageOf<T>>(shape, options),
                                              &owner, &workspace));
    const cudaError_t error = DeformConv2DForwardGpu(shape, inputs, y, workspace, options, StreamOf(context));
    OP_REQUIRES_OK(context, LaunchStatus(*context, error));
  }
};

template <typename T>
class DeformConv2DGradGpuOp final : public DeformConv2DGradOp<T> {
 public:
  using DeformConv2DGradOp<T>::DeformConv2DGradOp;

 protected:
  void Backward(OpKernelContext* context, const DeformConv2DShape& shape,
                const DeformConv2DInputs<StorageOf<T>>& inputs, const StorageOf<T>* dy,
                const DeformConv2DGradients<StorageOf<T>>& gradients) const override {
    const GpuOptions options = OptionsOfTensorFlow();
    tensorflow::Tensor owner;
    void* workspace;
    OP_REQUIRES_OK(context, AllocateWorkspace(context, DeformConv2DBackwardGpuWorkspace<StorageOf<T>>(shape, options),
                                              &owner, &workspace));
    const cudaError_t error =
        DeformConv2DBackwardGpu(shape, inputs, dy, gradients, workspace, options, StreamOf(context));
    OP_REQUIRES_OK(context, LaunchStatus(*context, error));
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformConv2D")                 \
                              .Device(tensorflow::DEVICE_GPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConv2DGpuOp<T>);                     \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformConv2DGrad")             \
                              .Device(tensorflow::DEVICE_GPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformConv2DGradGpuOp<T>)
DCNV2_FOR_EACH_TENSOR_TYPE(DCNV2_REGISTER)
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
