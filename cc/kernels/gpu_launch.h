// What CUDA kernels need of TensorFlow: a stream, its switches, memory, and somewhere to report errors.
//
// Only virtual functions of TensorFlow's stream are called, so that this compiles and links without TensorFlow's CUDA
// headers and libraries.
#ifndef DCNV2_CC_KERNELS_GPU_LAUNCH_H_
#define DCNV2_CC_KERNELS_GPU_LAUNCH_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/lib/gpu/common/options.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/tensor_float_32_utils.h"
#include "tensorflow/core/util/determinism.h"
#include "xla/stream_executor/stream.h"

namespace dcnv2 {

// The stream that the op's device computes on. TensorFlow has made the device the current one of the calling thread.
inline cudaStream_t StreamOf(tensorflow::OpKernelContext* context) {
  return static_cast<cudaStream_t>(context->op_device_context()->stream()->platform_specific_handle().stream);
}

// What the program has told TensorFlow, by tf.config.experimental.enable_tensor_float_32_execution and
// enable_op_determinism.
inline GpuOptions OptionsOfTensorFlow() {
  return {tensorflow::tensor_float_32_execution_enabled(), tensorflow::OpDeterminismRequired()};
}

// Memory from TensorFlow's allocator, null for zero bytes. The kernels may still be at work when `owner` dies: memory
// is reused in the order of the stream.
inline absl::Status AllocateWorkspace(tensorflow::OpKernelContext* context, int64_t bytes, tensorflow::Tensor* owner,
                                      void** workspace) {
  *workspace = nullptr;
  if (bytes == 0) return absl::OkStatus();
  TF_RETURN_IF_ERROR(context->allocate_temp(tensorflow::DT_INT8, tensorflow::TensorShape({bytes}), owner));
  *workspace = owner->data();
  return absl::OkStatus();
}

// The status of an op whose launches ended with `error`.
inline absl::Status LaunchStatus(const tensorflow::OpKernelContext& context, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      absl::StrCat(context.op_kernel().type_string(), " failed on the GPU: ", cudaGetErrorString(error), " (",
                   cudaGetErrorName(error), "). `tf-dcnv2 doctor` tells whether the library fits GPU and driver.");
  const bool exhausted = error == cudaErrorMemoryAllocation || error == cudaErrorLaunchOutOfResources;
  return exhausted ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

}  // namespace dcnv2

#endif  // DCNV2_CC_KERNELS_GPU_LAUNCH_H_
