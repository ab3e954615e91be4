// Runs the CUDA kernels of the op library through TensorFlow's own interface, and compares with its CPU kernels.
//
//   harness OP_LIBRARY [PART]...    all cases, or those whose names contain one of the parts
//
// Prints a line for each case, and a summary. Exit status: 0 all passed, 1 a case failed, 2 wrong arguments, 3 there is
// no GPU for TensorFlow.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "tensorflow/core/common_runtime/gpu_device_context.h"
#include "tensorflow/core/platform/tensor_float_32_utils.h"
#include "tensorflow/core/util/determinism.h"
#include "tests/gpu/tf_harness/calls.h"
#include "tests/gpu/tf_harness/op_runner.h"
#include "xla/stream_executor/stream_executor.h"

namespace tf_harness {
namespace {

namespace se = stream_executor;
namespace tf = tensorflow;

using Outcome = absl::StatusOr<std::string>;  // what to print beside "ok", or what is wrong

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InternalError(absl::StrCat(parts...));
}

// The emulated device, where there is one: it hears which streams are used, and who may look at its memory.
class Emulation {
 public:
  // Null where the ops run on a GPU.
  static Emulation* Find(void* ops) {
    static Emulation emulation;
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (driver == nullptr) return nullptr;
    access_ = reinterpret_cast<int (*)(int)>(dlsym(driver, "emulated_memory_access"));
    set_device_ = reinterpret_cast<void (*)(int, int, int, uint64_t)>(dlsym(ops, "emulated_device"));
    const auto observe = reinterpret_cast<void (*)(void (*)(void*, int))>(dlsym(ops, "emulated_observer"));
    if (access_ == nullptr || set_device_ == nullptr || observe == nullptr) return nullptr;
    observe(Observe);
    return &emulation;
  }

  // Blocks and threads run in another order from now on.
  void Shuffle(uint64_t seed) { set_device_(9, 0, 4, seed); }

  // The streams used since the last call.
  std::set<void*> TakeStreams() { return std::exchange(streams_, {}); }

 private:
  static void Observe(void* stream, int begins) {
    streams_.insert(stream);
    access_(begins);
  }

  inline static std::set<void*> streams_;
  inline static int (*access_)(int);
  inline static void (*set_device_)(int, int, int, uint64_t);
};

class Harness {
 public:
  Harness(std::unique_ptr<OpRunner> cpu, std::unique_ptr<OpRunner> gpu, Emulation* emulation)
      : cpu_(std::move(cpu)), gpu_(std::move(gpu)), emulation_(emulation) {
    AddCases();
  }

  // Runs the cases whose names contain one of `parts`, of which none means all. Returns how many failed.
  int Run(const std::vector<std::string>& parts) {
    int failed = 0, count = 0;
    const auto start = std::chrono::steady_clock::now();
    for (const auto& [name, run] : cases_) {
      const auto is_in_name = [&name = name](const std::string& part) { return absl::StrContains(name, part); };
      if (!parts.empty() && std::none_of(parts.begin(), parts.end(), is_in_name)) continue;
      // Should the process end here, the last line says where.
      std::printf("%-66s ", name.c_str());
      std::fflush(stdout);
      const Outcome outcome = run();
      if (outcome.ok()) {
        std::printf("ok    %s\n", outcome->c_str());
      } else {
        std::printf("FAIL  %s\n", outcome.status().ToString().c_str());
      }
      std::fflush(stdout);
      ++count;
      failed += !outcome.ok();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%d of %d cases passed in %.1f s on %s\n", count - failed, count, seconds.count(),
                gpu_->description().c_str());
    return failed;
  }

 private:
  void Add(std::string name, std::function<Outcome()> run) { cases_.emplace_back(std::move(name), std::move(run)); }

  void AddCases() {
    // Until a case says otherwise.
    tf::enable_tensor_float_32_execution(false);
    // First, because an op that looks for an argument in the wrong memory ends the process.
    Add("scales and gamma are read in the host's memory, all else is not", [this] { return MemoryTypes(); });
    for (const Type& type : kTypes) {
      for (const bool modulated : {false, true}) {
        Add(absl::StrCat("convolution and gradients, ", type.name, modulated ? ", modulated" : ""), [=] {
          ConvSpec plain;
          ConvSpec odd = OddConv();
          plain.type = odd.type = type;
          plain.use_mask = odd.use_mask = modulated;
          return SameAsOnCpu(std::vector<ConvSpec>{plain, odd}, type.tolerance);
        });
      }
      for (const char* convention : {"aligned", "mxnet"}) {
        Add(absl::StrCat("RoI pooling and gradients, ", type.name, ", ", convention), [=] {
          std::vector<RoiSpec> specs(3);
          for (RoiSpec& spec : specs) spec.type = type, spec.convention = convention;
          specs[0].use_offset = specs[0].use_mask = specs[1].use_mask = false;
          return SameAsOnCpu(specs, type.tolerance);
        });
      }
    }
    Add("RoI pooling and gradients, 16 levels", [this] {
      RoiSpec spec;
      spec.rois = 20;
      spec.levels.assign(16, {4, 3});
      return SameAsOnCpu(std::vector<RoiSpec>{spec}, kFloat32.tolerance);
    });
    Add("nothing to compute", [this] { return Empty(); });
    Add("wrong shapes are the errors that they are on the CPU", [this] { return WrongShapes(); });
    Add("wrong attributes and types are errors", [this] { return WrongAttributes(); });
    Add("more than 16 levels are an error", [this] { return TooManyLevels(); });
    Add("RoIs of images or levels that are not there are NaN", [this] { return UnknownRois(); });
    Add("TensorFlow's switch for TF32 is obeyed", [this] { return TensorFloat32(); });
    Add("TensorFlow's op determinism is obeyed", [this] { return Determinism(); });
    Add("a failing allocation is an error, whichever it is", [this] { return FailingAllocations(); });
    Add("a result larger than the device's memory is an error", [this] { return TooLarge(); });
    Add("kernels run on the device's stream", [this] { return RunsOnStream(); });
    Add("kernels run on another stream that they are given", [this] { return RunsOnOtherStream(); });
    Add("after all errors the device still computes",
        [this] { return SameAsOnCpu(std::vector<ConvSpec>{ConvSpec(), OddConv()}, kFloat32.tolerance); });
  }

  // Runs forward and backward on both devices.
  template <typename Spec>
  Outcome SameAsOnCpu(std::vector<Spec> specs, double tolerance) {
    double worst = 0;
    for (Spec& spec : specs) {
      for (const bool gradient : {false, true}) {
        spec.gradient = gradient;
        TF_ASSIGN_OR_RETURN(const Call call, MakeCall(spec));
        TF_ASSIGN_OR_RETURN(const double error, ErrorOf(call));
        worst = std::max(worst, error);
      }
    }
    if (worst > tolerance) {
      return Wrong("differs from the CPU by ", worst, " of the largest number; expected at most ", tolerance);
    }
    return absl::StrFormat("largest error %.1e of %.0e", worst, tolerance);
  }

  absl::StatusOr<double> ErrorOf(const Call& call) {
    TF_ASSIGN_OR_RETURN(const Tensors expected, cpu_->Run(call));
    TF_ASSIGN_OR_RETURN(const Tensors received, gpu_->Run(call));
    double worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, Error(received[i], expected[i]));
    return worst;
  }

  Outcome Empty() {
    ConvSpec no_images, no_rows, only_padding;
    no_images.x = {0, 4, 5, 32};
    no_rows.x = {2, 0, 5, 32};
    only_padding.x = {1, 0, 4, 32};
    only_padding.padding = "EXPLICIT";
    only_padding.explicit_paddings = {2, 2, 1, 1};
    RoiSpec no_rois, no_map, no_channels;
    no_rois.rois = 0;
    no_map.levels = {{0, 3}, {5, 6}};
    no_channels.channels = 0;
    TF_RETURN_IF_ERROR(SameAsOnCpu(std::vector<ConvSpec>{no_images, no_rows, only_padding}, 0).status());
    TF_RETURN_IF_ERROR(SameAsOnCpu(std::vector<RoiSpec>{no_rois, no_map, no_channels}, 1e-6).status());
    return "results and gradients are those of the CPU";
  }

  Outcome MemoryTypes() {
    for (const bool gradient : {false, true}) {
      ConvSpec conv;
      RoiSpec roi;
      conv.gradient = roi.gradient = gradient;
      TF_ASSIGN_OR_RETURN(const Call conv_call, MakeCall(conv));
      TF_ASSIGN_OR_RETURN(const Call roi_call, MakeCall(roi));
      const int levels = static_cast<int>(roi.levels.size());
      TF_RETURN_IF_ERROR(CheckMemoryTypes(conv_call, {}));
      TF_RETURN_IF_ERROR(CheckMemoryTypes(roi_call, {levels + kSpatialScales, levels + kGamma}));
    }
    return emulation_ == nullptr ? "as registered" : "as registered; the device's memory was out of the host's reach";
  }

  absl::Status CheckMemoryTypes(const Call& call, const std::set<int>& on_host) {
    TF_ASSIGN_OR_RETURN(const auto kernel, gpu_->CreateKernel(call.node));
    for (int i = 0; i < kernel->num_inputs(); ++i) {
      if ((kernel->input_memory_types()[i] == tf::HOST_MEMORY) != (on_host.count(i) == 1)) {
        return Wrong("input ", i, " of ", call.node.op(), " is in the wrong memory");
      }
    }
    for (const tf::MemoryType type : kernel->output_memory_types()) {
      if (type == tf::HOST_MEMORY) return Wrong("an output of ", call.node.op(), " is in the host's memory");
    }
    return absl::OkStatus();
  }

  Outcome WrongShapes() {
    using Shape = std::vector<int64_t>;
    ConvSpec conv;
    conv.gradient = true;  // has all inputs
    for (const auto& [input, shape] : std::vector<std::pair<int, Shape>>{{0, {10, 9, 32}},
                                                                         {0, {1, 10, 9, 31}},
                                                                         {0, {2, 10, 9, 32}},
                                                                         {0, {1, 11, 9, 32}},
                                                                         {1, {3, 3, 32}},
                                                                         {1, {3, 0, 32, 64}},
                                                                         {1, {3, 3, 31, 64}},
                                                                         {2, {1, 10, 9, 16}},
                                                                         {2, {1, 10, 8, 18}},
                                                                         {2, {}},
                                                                         {3, {0}},
                                                                         {3, {1, 10, 9, 8}},
                                                                         {4, {1, 10, 9, 63}},
                                                                         {4, {64}}}) {
      TF_RETURN_IF_ERROR(IsRefused(conv, input, shape));
    }
    conv.use_mask = false;
    TF_RETURN_IF_ERROR(IsRefused(conv, 3, Shape{1, 10, 9, 9}));
    RoiSpec roi;
    roi.gradient = true;
    const int levels = static_cast<int>(roi.levels.size());
    for (const auto& [input, shape] : std::vector<std::pair<int, Shape>>{{0, {2, 9, 11}},
                                                                         {1, {2, 5, 6, 18}},
                                                                         {1, {1, 5, 6, 19}},
                                                                         {levels + kBoxes, {5, 5}},
                                                                         {levels + kBoxes, {4, 4}},
                                                                         {levels + kBoxIndices, {4}},
                                                                         {levels + kLevels, {5, 1}},
                                                                         {levels + kOffset, {5, 3, 2, 1}},
                                                                         {levels + kOffset, {0}},
                                                                         {levels + kMask, {5, 3, 3}},
                                                                         {levels + kSpatialScales, {1}},
                                                                         {levels + kSpatialScales, {}},
                                                                         {levels + kGamma, {2}},
                                                                         {levels + kRoiGradient, {5, 3, 2, 18}},
                                                                         {levels + kRoiGradient, {0}}}) {
      TF_RETURN_IF_ERROR(IsRefused(roi, input, shape));
    }
    return "30 shapes";
  }

  // Whether an input of another shape is the same error on both devices.
  template <typename Spec>
  absl::Status IsRefused(const Spec& spec, int input, const std::vector<int64_t>& shape) {
    TF_ASSIGN_OR_RETURN(Call call, MakeCall(spec));
    tf::Tensor& changed = call.inputs[input];
    changed = tf::Tensor(changed.dtype(), tf::TensorShape(shape));
    std::memset(changed.data(), 0, changed.TotalBytes());
    const absl::Status on_cpu = cpu_->Run(call).status(), on_gpu = gpu_->Run(call).status();
    if (absl::IsInvalidArgument(on_gpu) && on_gpu.message() == on_cpu.message()) return absl::OkStatus();
    return Wrong("input ", input, " of ", call.node.op(), " with shape [", absl::StrJoin(shape, ", "), "] gives \"",
                 on_gpu.ToString(), "\" instead of \"", on_cpu.ToString(), "\"");
  }

  Outcome WrongAttributes() {
    TF_ASSIGN_OR_RETURN(const Call conv, MakeCall(ConvSpec()));
    TF_ASSIGN_OR_RETURN(const Call roi, MakeCall(RoiSpec()));
    const auto set_first = [](const char* name, int64_t value) {
      return [=](tf::NodeDef* node) { (*node->mutable_attr())[name].mutable_list()->set_i(0, value); };
    };
    using absl::StatusCode;
    const struct {
      const Call& call;
      std::function<void(tf::NodeDef*)> change;
      StatusCode expected;
    } changes[] = {
        {conv, set_first("strides", 0), StatusCode::kInvalidArgument},
        {conv, [](tf::NodeDef* node) { (*node->mutable_attr())["explicit_paddings"].mutable_list()->add_i(1); },
         StatusCode::kInvalidArgument},
        {conv, [](tf::NodeDef* node) { (*node->mutable_attr())["C"].set_type(tf::DT_DOUBLE); }, StatusCode::kNotFound},
        {roi, set_first("output_size", 0), StatusCode::kInvalidArgument},
        {roi, [](tf::NodeDef* node) { (*node->mutable_attr())["sampling_ratio"].set_i(1000); },
         StatusCode::kInvalidArgument},
    };
    for (const auto& [call, change, expected] : changes) {
      tf::NodeDef node = call.node;
      change(&node);
      const absl::Status status = gpu_->CreateKernel(node).status();
      if (status.code() != expected) return Wrong(node.ShortDebugString(), " gives \"", status.ToString(), "\"");
    }
    return "5 nodes";
  }

  Outcome TooManyLevels() {
    RoiSpec spec;
    spec.levels.assign(17, {4, 3});
    for (const bool gradient : {false, true}) {
      spec.gradient = gradient;
      TF_ASSIGN_OR_RETURN(const Call call, MakeCall(spec));
      const absl::Status status = gpu_->Run(call).status();
      if (!absl::IsInvalidArgument(status) || !absl::StrContains(status.message(), "features has 17 levels")) {
        return Wrong("gives \"", status.ToString(), "\"");
      }
    }
    return "refused by name";
  }

  Outcome UnknownRois() {
    RoiSpec spec;
    TF_ASSIGN_OR_RETURN(Call call, MakeCall(spec));
    TF_ASSIGN_OR_RETURN(const Tensors expected, cpu_->Run(call));
    const size_t levels = spec.levels.size();
    call.inputs[levels + kBoxIndices].flat<int32_t>()(1) = 2;
    call.inputs[levels + kLevels].flat<int32_t>()(3) = -1;
    TF_ASSIGN_OR_RETURN(const Tensors received, gpu_->Run(call));
    const auto of_roi = [rois = spec.rois](const tf::Tensor& y, int64_t roi) {
      const std::vector<double> all = Values(y);
      const auto size = static_cast<int64_t>(all.size()) / rois;
      return std::vector<double>(all.begin() + roi * size, all.begin() + (roi + 1) * size);
    };
    for (int64_t roi = 0; roi < spec.rois; ++roi) {
      const std::vector<double> values = of_roi(received[0], roi);
      if (roi == 1 || roi == 3) {
        const bool is_nan = std::all_of(values.begin(), values.end(), [](double value) { return std::isnan(value); });
        if (!is_nan) return Wrong("RoI ", roi, " is not NaN");
      } else if (Error(values, of_roi(expected[0], roi)) > kFloat32.tolerance) {
        return Wrong("RoI ", roi, " is no longer what it was");
      }
    }
    return "2 of 5, and the others as before";
  }

  Outcome TensorFloat32() {
    TF_ASSIGN_OR_RETURN(const Call call, MakeCall(ConvSpec()));
    TF_ASSIGN_OR_RETURN(const double precise, ErrorOf(call));
    tf::enable_tensor_float_32_execution(true);
    const absl::StatusOr<double> rounded = ErrorOf(call);
    tf::enable_tensor_float_32_execution(false);
    TF_RETURN_IF_ERROR(rounded.status());
    const std::string errors = absl::StrFormat("errors without %.1e, with %.1e", precise, *rounded);
    constexpr double kTensorFloat32 = 3e-3;
    if (precise > kFloat32.tolerance || *rounded < 5 * precise || *rounded > kTensorFloat32) return Wrong(errors);
    return errors;
  }

  Outcome Determinism() {
    ConvSpec conv;
    RoiSpec roi;
    conv.gradient = roi.gradient = true;
    roi.rois = 40;
    TF_ASSIGN_OR_RETURN(const Call conv_call, MakeCall(conv));
    TF_ASSIGN_OR_RETURN(const Call roi_call, MakeCall(roi));
    for (const Call& call : {conv_call, roi_call}) {
      TF_ASSIGN_OR_RETURN(const Tensors expected, cpu_->Run(call));
      tf::EnableOpDeterminism(true);
      const absl::StatusOr<bool> repeatable = IsRepeatable(call, expected);
      tf::EnableOpDeterminism(false);
      TF_RETURN_IF_ERROR(repeatable.status());
      if (!*repeatable) return Wrong(call.node.op(), " gives other bits in another run");
      // A GPU may add in the same order by chance; the emulated device takes care not to.
      if (emulation_ == nullptr) continue;
      TF_ASSIGN_OR_RETURN(const bool always, IsRepeatable(call, expected));
      if (always) return Wrong(call.node.op(), " gives the same bits without the switch");
    }
    return absl::StrCat("same bits in ", kRepetitions, " runs", emulation_ == nullptr ? "" : ", others without");
  }

  // Whether several runs give the same bits; an error where one is wrong.
  absl::StatusOr<bool> IsRepeatable(const Call& call, const Tensors& expected) {
    Tensors first;
    bool repeatable = true;
    for (int repetition = 0; repetition < kRepetitions; ++repetition) {
      if (emulation_ != nullptr) emulation_->Shuffle(repetition);
      TF_ASSIGN_OR_RETURN(const Tensors received, gpu_->Run(call));
      for (size_t i = 0; i < expected.size(); ++i) {
        if (Error(received[i], expected[i]) > kFloat32.tolerance) return Wrong("output ", i, " is wrong");
      }
      if (repetition == 0) first = received;
      repeatable = repeatable && SameBits(received, first);
    }
    return repeatable;
  }

  Outcome FailingAllocations() {
    int failures = 0;
    for (const bool gradient : {false, true}) {
      ConvSpec conv;
      RoiSpec roi;
      conv.gradient = roi.gradient = gradient;
      // Gradients of 16-bit numbers need memory to work in.
      conv.type = roi.type = kBfloat16;
      TF_ASSIGN_OR_RETURN(const Call conv_call, MakeCall(conv));
      TF_ASSIGN_OR_RETURN(const Call roi_call, MakeCall(roi));
      for (const Call& call : {conv_call, roi_call}) {
        gpu_->TakeAllocations();
        TF_RETURN_IF_ERROR(gpu_->Run(call).status());
        const auto allocations = static_cast<int>(gpu_->TakeAllocations().size());
        TF_ASSIGN_OR_RETURN(const auto kernel, gpu_->CreateKernel(call.node));
        if (allocations != kernel->num_outputs() + (gradient ? 1 : 0)) {
          return Wrong(call.node.op(), " allocates ", allocations, " times");
        }
        for (int granted = 0; granted < allocations; ++granted, ++failures) {
          gpu_->GrantAllocations(granted);
          const absl::Status status = gpu_->Run(call).status();
          gpu_->GrantAllocations(OpRunner::kUnlimited);
          if (!absl::IsResourceExhausted(status)) {
            return Wrong(call.node.op(), " with ", granted, " allocations gives \"", status.ToString(), "\"");
          }
        }
      }
    }
    return absl::StrCat(failures, " allocations, of outputs and workspaces");
  }

  Outcome TooLarge() {
    RoiSpec spec;
    spec.use_offset = spec.use_mask = false;
    spec.channels = 128;
    spec.rois = 1024;
    spec.output_size = {64, 64};
    TF_ASSIGN_OR_RETURN(const Call call, MakeCall(spec));
    const absl::Status status = gpu_->Run(call).status();
    if (!absl::IsResourceExhausted(status)) return Wrong("gives \"", status.ToString(), "\"");
    return "2 GiB of 1";
  }

  Outcome RunsOnStream() { return ChecksStream(gpu_->stream()); }

  Outcome RunsOnOtherStream() {
    TF_ASSIGN_OR_RETURN(const std::unique_ptr<se::Stream> other, gpu_->stream()->parent()->CreateStream());
    auto* context = new tf::GPUDeviceContext(1, other.get(), other.get(), other.get(), {other.get()}, nullptr);
    gpu_->UseContext(context);
    const Outcome outcome = ChecksStream(other.get());
    gpu_->UseContext(nullptr);
    context->Unref();
    TF_RETURN_IF_ERROR(other->BlockHostUntilDone());
    return outcome;
  }

  // Whether everything that the ops do is done on `stream`, which the runner uses.
  Outcome ChecksStream(se::Stream* stream) {
    for (const bool gradient : {false, true}) {
      ConvSpec conv;
      RoiSpec roi;
      conv.gradient = roi.gradient = gradient;
      TF_ASSIGN_OR_RETURN(const Call conv_call, MakeCall(conv));
      TF_ASSIGN_OR_RETURN(const Call roi_call, MakeCall(roi));
      for (const Call& call : {conv_call, roi_call}) {
        TF_RETURN_IF_ERROR(emulation_ != nullptr ? UsesOnly(stream, call) : WaitsFor(stream, call));
      }
    }
    return emulation_ != nullptr ? "no launch, copy or memset elsewhere" : "they wait for what is before them there";
  }

  absl::Status UsesOnly(se::Stream* stream, const Call& call) {
    emulation_->TakeStreams();
    TF_RETURN_IF_ERROR(gpu_->Run(call).status());
    if (emulation_->TakeStreams() == std::set<void*>{stream->platform_specific_handle().stream}) {
      return absl::OkStatus();
    }
    return Wrong(call.node.op(), " uses another stream");
  }

  // Holds the stream up, launches the op, and looks whether results stay as they were allocated until the stream goes
  // on.
  absl::Status WaitsFor(se::Stream* stream, const Call& call) {
    // First without: loading kernels and growing the allocator's memory wait for the whole device.
    TF_ASSIGN_OR_RETURN(const Tensors expected, gpu_->Run(call));
    TF_ASSIGN_OR_RETURN(const auto kernel, gpu_->CreateKernel(call.node));
    TF_ASSIGN_OR_RETURN(const Tensors placed, gpu_->Place(*kernel, call.inputs));
    TF_ASSIGN_OR_RETURN(const std::unique_ptr<se::Stream> aside, stream->parent()->CreateStream());
    absl::Notification go_on;
    TF_RETURN_IF_ERROR(stream->DoHostCallback([&go_on] { go_on.WaitForNotificationWithTimeout(absl::Seconds(3)); }));
    const auto is_held_up = [&](const absl::StatusOr<Tensors>& outputs) -> absl::StatusOr<bool> {
      TF_RETURN_IF_ERROR(outputs.status());
      absl::SleepFor(absl::Milliseconds(100));
      return AreNan(aside.get(), *outputs);
    };
    const absl::StatusOr<Tensors> outputs = gpu_->Launch(kernel.get(), placed);
    const absl::StatusOr<bool> held_up = is_held_up(outputs);
    go_on.Notify();
    TF_RETURN_IF_ERROR(stream->BlockHostUntilDone());
    TF_RETURN_IF_ERROR(held_up.status());
    if (!*held_up) return Wrong(call.node.op(), " does not wait for what is before it on the stream");
    TF_ASSIGN_OR_RETURN(const Tensors received, gpu_->Fetch(*kernel, *outputs));
    for (size_t i = 0; i < expected.size(); ++i) {
      if (Error(received[i], expected[i]) > kFloat32.tolerance) return Wrong("output ", i, " is wrong");
    }
    return absl::OkStatus();
  }

  // Whether tensors on the device are full of NaN, which is read without waiting for any other stream.
  static absl::StatusOr<bool> AreNan(se::Stream* aside, const Tensors& tensors) {
    for (const tf::Tensor& tensor : tensors) {
      tf::Tensor copy(tensor.dtype(), tensor.shape());
      const se::DeviceMemoryBase memory(tensor.data(), tensor.TotalBytes());
      TF_RETURN_IF_ERROR(aside->Memcpy(copy.data(), memory, tensor.TotalBytes()));
      TF_RETURN_IF_ERROR(aside->BlockHostUntilDone());
      for (const double value : Values(copy)) {
        if (!std::isnan(value)) return false;
      }
    }
    return true;
  }

  static constexpr int kRepetitions = 3;

  std::unique_ptr<OpRunner> cpu_, gpu_;
  Emulation* emulation_;
  std::vector<std::pair<std::string, std::function<Outcome()>>> cases_;
};

}  // namespace

int Main(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    std::fprintf(stderr, "harness takes the path of the op library, then parts of the names of cases\n");
    return 2;
  }
  void* ops = nullptr;
  const absl::Status loaded = tf::Env::Default()->LoadDynamicLibrary(arguments[0].c_str(), &ops);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", loaded.ToString().c_str());
    return 2;
  }
  auto cpu = OpRunner::Create(tf::DEVICE_CPU), gpu = OpRunner::Create(tf::DEVICE_GPU);
  for (const auto* runner : {&cpu, &gpu}) {
    if (!runner->ok()) {
      std::printf("no device for TensorFlow: %s\n", runner->status().ToString().c_str());
      return 3;
    }
  }
  Harness harness(std::move(*cpu), std::move(*gpu), Emulation::Find(ops));
  return harness.Run({arguments.begin() + 1, arguments.end()}) == 0 ? 0 : 1;
}

}  // namespace tf_harness

int main(int count, char** values) { return tf_harness::Main({values + 1, values + count}); }
