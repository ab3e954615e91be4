#include "cc/kernels/deform_roi_pool_op.h"
#include "cc/kernels/gpu_launch.h"
#include "cc/lib/gpu/roi/deform_roi_pool.h"

namespace dcnv2 {
namespace {

using tensorflow::OpKernelContext;

// box_indices and levels stay unseen: looking at them would mean waiting for the GPU.
absl::Status CheckLevels(const DeformRoiPoolShape& shape) {
  if (shape.levels.size() <= kMaxGpuRoiLevels) return absl::OkStatus();
  return InvalidArgument("features has ", shape.levels.size(), " levels; on a GPU at most ", kMaxGpuRoiLevels,
                         " are possible.");
}

template <typename T>
class DeformRoiPoolGpuOp final : public DeformRoiPoolOp<T> {
 public:
  using DeformRoiPoolOp<T>::DeformRoiPoolOp;

 protected:
  absl::Status CheckInputs(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<StorageOf<T>>&) const override {
    return CheckLevels(shape);
  }

  void Forward(OpKernelContext* context, const DeformRoiPoolShape& shape,
               const DeformRoiPoolInputs<StorageOf<T>>& inputs, StorageOf<T>* y) const override {
    OP_REQUIRES_OK(context, LaunchStatus(*context, DeformRoiPoolForwardGpu(shape, inputs, y, StreamOf(context))));
  }
};

template <typename T>
class DeformRoiPoolGradGpuOp final : public DeformRoiPoolGradOp<T> {
 public:
  using DeformRoiPoolGradOp<T>::DeformRoiPoolGradOp;

 protected:
  absl::Status CheckInputs(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<StorageOf<T>>&) const override {
    return CheckLevels(shape);
  }

  void Backward(OpKernelContext* context, const DeformRoiPoolShape& shape,
                const DeformRoiPoolInputs<StorageOf<T>>& inputs, const StorageOf<T>* dy,
                const DeformRoiPoolGradients<StorageOf<T>>& gradients) const override {
    const GpuOptions options = OptionsOfTensorFlow();
    tensorflow::Tensor owner;
    void* workspace;
    OP_REQUIRES_OK(context, AllocateWorkspace(context, DeformRoiPoolBackwardGpuWorkspace<StorageOf<T>>(shape, options),
                                              &owner, &workspace));
    const cudaError_t error =
        DeformRoiPoolBackwardGpu(shape, inputs, dy, gradients, workspace, options, StreamOf(context));
    OP_REQUIRES_OK(context, LaunchStatus(*context, error));
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformRoiPool")                \
                              .Device(tensorflow::DEVICE_GPU)        \
                              .HostMemory("spatial_scales")          \
                              .HostMemory("gamma")                   \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformRoiPoolGpuOp<T>);                    \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformRoiPoolGrad")            \
                              .Device(tensorflow::DEVICE_GPU)        \
                              .HostMemory("spatial_scales")          \
                              .HostMemory("gamma")                   \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformRoiPoolGradGpuOp<T>)
DCNV2_FOR_EACH_TENSOR_TYPE(DCNV2_REGISTER)
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
