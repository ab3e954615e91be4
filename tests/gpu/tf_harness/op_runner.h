// Runs ops by TensorFlow's own interface, as its executor does, on a device of TensorFlow's own.
#ifndef DCNV2_TESTS_GPU_TF_HARNESS_OP_RUNNER_H_
#define DCNV2_TESTS_GPU_TF_HARNESS_OP_RUNNER_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tensorflow/core/common_runtime/device.h"
#include "tensorflow/core/framework/node_def.pb.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "xla/stream_executor/stream.h"

namespace tf_harness {

// A node, and the tensors it is given, which lie in the host's memory.
struct Call {
  tensorflow::NodeDef node;
  std::vector<tensorflow::Tensor> inputs;
};

using Tensors = std::vector<tensorflow::Tensor>;

class WatchedDevice;

// One device. Memory that ops allocate on it is full of NaN.
class OpRunner {
 public:
  // `kind` is tensorflow::DEVICE_CPU or DEVICE_GPU. An error where TensorFlow makes no such device.
  static absl::StatusOr<std::unique_ptr<OpRunner>> Create(const char* kind);
  ~OpRunner();

  // Null on the CPU.
  stream_executor::Stream* stream() const;
  std::string description() const { return device_->attributes().physical_device_desc(); }

  absl::StatusOr<std::unique_ptr<tensorflow::OpKernel>> CreateKernel(const tensorflow::NodeDef& node) const;

  // The op's results in the host's memory, or the error of whatever failed.
  absl::StatusOr<Tensors> Run(const Call& call);

  // The steps of Run. Inputs go where the kernel wants them; what is launched need not be done.
  absl::StatusOr<Tensors> Place(const tensorflow::OpKernel& kernel, const Tensors& inputs) const;
  absl::StatusOr<Tensors> Launch(tensorflow::OpKernel* kernel, const Tensors& placed);
  absl::StatusOr<Tensors> Fetch(const tensorflow::OpKernel& kernel, const Tensors& outputs) const;

  // Ops launched from now on get this context, null for the device's own. The caller keeps it.
  void UseContext(tensorflow::DeviceContext* context) { chosen_context_ = context; }

  // Bytes of the allocations that ops have asked for since the last call, in their order.
  std::vector<int64_t> TakeAllocations();
  // Only so many more allocations are granted.
  void GrantAllocations(int64_t count);
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

 private:
  explicit OpRunner(std::unique_ptr<tensorflow::Device> device);
  tensorflow::DeviceContext* context() const;

  std::unique_ptr<tensorflow::Device> device_;
  std::unique_ptr<WatchedDevice> watched_;
  tensorflow::DeviceContext* chosen_context_ = nullptr;
};

}  // namespace tf_harness

#endif  // DCNV2_TESTS_GPU_TF_HARNESS_OP_RUNNER_H_
