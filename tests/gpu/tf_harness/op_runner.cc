#include "tests/gpu/tf_harness/op_runner.h"

#include <cstring>
#include <utility>

#include "tensorflow/core/common_runtime/device_factory.h"
#include "tensorflow/core/framework/allocator.h"
#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/public/session_options.h"
#include "tensorflow/core/public/version.h"
#include "xla/stream_executor/device_memory.h"
#include "xla/stream_executor/stream_executor.h"

namespace tf_harness {

namespace se = stream_executor;
namespace tf = tensorflow;

namespace {

// Bits of NaN in every type of floating-point numbers.
constexpr uint32_t kNan = 0xffffffff;

// The device's own allocator, which fails when it is told to.
class WatchedAllocator final : public tsl::AllocatorWrapper {
 public:
  // `stream` is null where the memory is the host's.
  WatchedAllocator(tf::Allocator* wrapped, se::Stream* stream) : AllocatorWrapper(wrapped), stream_(stream) {}

  void* AllocateRaw(size_t alignment, size_t bytes) override { return AllocateRaw(alignment, bytes, {}); }
  void* AllocateRaw(size_t alignment, size_t bytes, const tf::AllocationAttributes&) override {
    sizes.push_back(static_cast<int64_t>(bytes));
    if (granted == 0) return nullptr;
    --granted;
    // Otherwise TensorFlow waits ten seconds for memory to become free.
    tf::AllocationAttributes attributes;
    attributes.retry_on_failure = false;
    void* address = wrapped()->AllocateRaw(alignment, bytes, attributes);
    return address == nullptr || Fill(address, bytes) ? address : nullptr;
  }

  std::vector<int64_t> sizes;
  int64_t granted = OpRunner::kUnlimited;

 private:
  // At once, whatever the device has yet to do.
  bool Fill(void* address, size_t bytes) {
    if (stream_ == nullptr) {
      std::memset(address, kNan & 0xff, bytes);
      return true;
    }
    if (filling_ == nullptr) {
      auto made = stream_->parent()->CreateStream();
      if (!made.ok()) return false;
      filling_ = std::move(*made);
    }
    // Allocations are padded.
    const size_t words = (bytes + sizeof(kNan) - 1) / sizeof(kNan) * sizeof(kNan);
    se::DeviceMemoryBase memory(address, words);
    return filling_->Memset32(&memory, kNan, words).ok() && filling_->BlockHostUntilDone().ok();
  }

  se::Stream* stream_;
  std::unique_ptr<se::Stream> filling_;
};

}  // namespace

// What ops see of the device: itself, but for the allocator of its memory.
class WatchedDevice final : public tf::DeviceBase {
 public:
  WatchedDevice(tf::Device* device, se::Stream* stream)
      : DeviceBase(device->env()), allocator(device->GetAllocator({}), stream), device_(device) {}

  const CpuWorkerThreads* tensorflow_cpu_worker_threads() const override {
    return device_->tensorflow_cpu_worker_threads();
  }
  const AcceleratorDeviceInfo* tensorflow_accelerator_device_info() const override {
    return device_->tensorflow_accelerator_device_info();
  }
  tf::Allocator* GetAllocator(tf::AllocatorAttributes attributes) override {
    return attributes.on_host() ? device_->GetAllocator(attributes) : &allocator;
  }
  tf::DeviceBase* UnderlyingDevice() override { return device_; }
  const tf::DeviceBase* UnderlyingDevice() const override { return device_; }
  const tf::DeviceAttributes& attributes() const override { return device_->attributes(); }
  const std::string& name() const override { return device_->name(); }

  WatchedAllocator allocator;

 private:
  tf::Device* device_;
};

absl::StatusOr<std::unique_ptr<OpRunner>> OpRunner::Create(const char* kind) {
  tf::SessionOptions options;
  // A GPU has other users.
  auto* gpu = options.config.mutable_gpu_options();
  gpu->set_allow_growth(true);
  gpu->mutable_experimental()->add_virtual_devices()->add_memory_limit_mb(1024);
  std::vector<std::unique_ptr<tf::Device>> devices;
  tf::DeviceFactory* factory = tf::DeviceFactory::GetFactory(kind);
  if (factory == nullptr) return absl::UnavailableError("TensorFlow has no devices of this kind.");
  TF_RETURN_IF_ERROR(factory->CreateDevices(options, "/job:localhost/replica:0/task:0", &devices));
  if (devices.empty()) return absl::UnavailableError("TensorFlow finds no device; its messages above say why.");
  return std::unique_ptr<OpRunner>(new OpRunner(std::move(devices.front())));
}

OpRunner::OpRunner(std::unique_ptr<tf::Device> device)
    : device_(std::move(device)), watched_(std::make_unique<WatchedDevice>(device_.get(), stream())) {}

OpRunner::~OpRunner() = default;

tf::DeviceContext* OpRunner::context() const {
  if (chosen_context_ != nullptr) return chosen_context_;
  const auto* accelerator = device_->tensorflow_accelerator_device_info();
  return accelerator == nullptr ? nullptr : accelerator->default_context;
}

se::Stream* OpRunner::stream() const { return context() == nullptr ? nullptr : context()->stream(); }

absl::StatusOr<std::unique_ptr<tf::OpKernel>> OpRunner::CreateKernel(const tf::NodeDef& node) const {
  absl::Status status;
  auto kernel = tf::CreateOpKernel(tf::DeviceType(device_->device_type()), watched_.get(), device_->GetAllocator({}),
                                   node, TF_GRAPH_DEF_VERSION, &status);
  TF_RETURN_IF_ERROR(status);
  return kernel;
}

absl::StatusOr<Tensors> OpRunner::Run(const Call& call) {
  TF_ASSIGN_OR_RETURN(const auto kernel, CreateKernel(call.node));
  TF_ASSIGN_OR_RETURN(const Tensors placed, Place(*kernel, call.inputs));
  TF_ASSIGN_OR_RETURN(const Tensors outputs, Launch(kernel.get(), placed));
  return Fetch(*kernel, outputs);
}

absl::StatusOr<Tensors> OpRunner::Place(const tf::OpKernel& kernel, const Tensors& inputs) const {
  Tensors placed;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const tf::Tensor& input = inputs[i];
    if (context() == nullptr || kernel.input_memory_types()[i] == tf::HOST_MEMORY) {
      placed.push_back(input);
      continue;
    }
    tf::Tensor copy(device_->GetAllocator({}), input.dtype(), input.shape());
    if (!copy.IsInitialized()) return absl::ResourceExhaustedError("no memory for the inputs");
    if (input.NumElements() > 0) {
      TF_RETURN_IF_ERROR(context()->CopyCPUTensorToDeviceSync(&input, device_.get(), &copy));
    }
    placed.push_back(copy);
  }
  return placed;
}

absl::StatusOr<Tensors> OpRunner::Launch(tf::OpKernel* kernel, const Tensors& placed) {
  Tensors arguments = placed;
  std::vector<tf::TensorValue> inputs;
  for (tf::Tensor& argument : arguments) inputs.emplace_back(&argument);
  std::vector<tf::AllocatorAttributes> input_attributes(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    input_attributes[i].set_on_host(kernel->input_memory_types()[i] == tf::HOST_MEMORY);
  }
  std::vector<tf::AllocatorAttributes> output_attributes(kernel->num_outputs());
  for (int i = 0; i < kernel->num_outputs(); ++i) {
    output_attributes[i].set_on_host(kernel->output_memory_types()[i] == tf::HOST_MEMORY);
  }

  tf::OpKernelContext::Params params;
  params.op_kernel = kernel;
  params.device = watched_.get();
  params.op_device_context = context();
  params.inputs = inputs;
  params.input_alloc_attrs = input_attributes;
  params.output_attr_array = output_attributes.data();
  params.resource_manager = device_->resource_manager();
  tf::OpKernelContext op(&params);
  device_->Compute(kernel, &op);
  TF_RETURN_IF_ERROR(op.status());

  Tensors outputs;
  for (int i = 0; i < kernel->num_outputs(); ++i) {
    const std::unique_ptr<tf::Tensor> output(op.release_output(i).tensor);
    if (output == nullptr) return absl::InternalError("the op has left an output out");
    outputs.push_back(*output);
  }
  return outputs;
}

absl::StatusOr<Tensors> OpRunner::Fetch(const tf::OpKernel& kernel, const Tensors& outputs) const {
  Tensors fetched;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (context() == nullptr || kernel.output_memory_types()[i] == tf::HOST_MEMORY) {
      fetched.push_back(outputs[i]);
      continue;
    }
    tf::Tensor copy(outputs[i].dtype(), outputs[i].shape());
    if (copy.NumElements() > 0) {
      TF_RETURN_IF_ERROR(context()->CopyDeviceTensorToCPUSync(&outputs[i], "output", device_.get(), &copy));
    }
    fetched.push_back(copy);
  }
  return fetched;
}

std::vector<int64_t> OpRunner::TakeAllocations() { return std::exchange(watched_->allocator.sizes, {}); }

void OpRunner::GrantAllocations(int64_t count) { watched_->allocator.granted = count; }

}  // namespace tf_harness
