#include "cc/kernels/deform_roi_pool_op.h"

#include "cc/kernels/cpu_parallel_for.h"
#include "cc/lib/cpu/roi/deform_roi_pool.h"

namespace dcnv2 {
namespace {

using tensorflow::OpKernelContext;

absl::Status CheckRange(const char* name, const int32_t* values, int64_t count, int64_t end, const char* meaning) {
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] < 0 || values[i] >= end) {
      return InvalidArgument(name, "[", i, "] is out of range: expected a value in [0, ", end, "), ", meaning,
                             ". Received: ", values[i]);
    }
  }
  return absl::OkStatus();
}

template <typename S>
absl::Status CheckIndices(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs) {
  TF_RETURN_IF_ERROR(CheckRange("box_indices", inputs.box_indices, shape.rois, shape.batch, "the batch of features"));
  return CheckRange("levels", inputs.levels, shape.rois, shape.levels.size(), "the number of feature levels");
}

template <typename T>
class DeformRoiPoolCpuOp final : public DeformRoiPoolOp<T> {
 public:
  using DeformRoiPoolOp<T>::DeformRoiPoolOp;

 protected:
  absl::Status CheckInputs(const DeformRoiPoolShape& shape,
                           const DeformRoiPoolInputs<StorageOf<T>>& inputs) const override {
    return CheckIndices(shape, inputs);
  }

  void Forward(OpKernelContext* context, const DeformRoiPoolShape& shape,
               const DeformRoiPoolInputs<StorageOf<T>>& inputs, StorageOf<T>* y) const override {
    RunOnCpuPool(context,
                 [&](const ParallelFor& parallel_for) { DeformRoiPoolForward(shape, inputs, y, parallel_for); });
  }
};

template <typename T>
class DeformRoiPoolGradCpuOp final : public DeformRoiPoolGradOp<T> {
 public:
  using DeformRoiPoolGradOp<T>::DeformRoiPoolGradOp;

 protected:
  absl::Status CheckInputs(const DeformRoiPoolShape& shape,
                           const DeformRoiPoolInputs<StorageOf<T>>& inputs) const override {
    return CheckIndices(shape, inputs);
  }

  void Backward(OpKernelContext* context, const DeformRoiPoolShape& shape,
                const DeformRoiPoolInputs<StorageOf<T>>& inputs, const StorageOf<T>* dy,
                const DeformRoiPoolGradients<StorageOf<T>>& gradients) const override {
    RunOnCpuPool(context, [&](const ParallelFor& parallel_for) {
      DeformRoiPoolBackward(shape, inputs, dy, gradients, parallel_for);
    });
  }
};

#define DCNV2_REGISTER(T)                                            \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformRoiPool")                \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformRoiPoolCpuOp<T>);                    \
  REGISTER_KERNEL_BUILDER(Name("Dcnv2>DeformRoiPoolGrad")            \
                              .Device(tensorflow::DEVICE_CPU)        \
                              .TypeConstraint<T>("T")                \
                              .TypeConstraint<CoordinateOf<T>>("C"), \
                          DeformRoiPoolGradCpuOp<T>)
DCNV2_FOR_EACH_TENSOR_TYPE(DCNV2_REGISTER)
#undef DCNV2_REGISTER

}  // namespace
}  // namespace dcnv2
