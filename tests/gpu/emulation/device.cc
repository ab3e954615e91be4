// The host's side of the emulated device.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "block.h"
#include "emulator.h"

namespace {

constexpr int kDefaultSharedBytes = 48 * 1024;

cudaError_t last_error = cudaSuccess;
std::string launch_failure;
std::map<const void*, size_t> shared_bytes_of_kernel;

struct LaunchRecord {
  uint64_t blocks, threads, shared_bytes, additions;
};
std::vector<LaunchRecord> launches;

using Observer = void (*)(void* stream, int begins);
Observer observer = nullptr;

// Work of the device: from here to the end of the scope it uses its memory.
class Work {
 public:
  explicit Work(cudaStream_t stream) : stream_(stream) {
    if (observer != nullptr) observer(stream_, 1);
  }
  ~Work() {
    if (observer != nullptr) observer(stream_, 0);
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

 private:
  cudaStream_t stream_;
};

cudaError_t Remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// What CUDA's manual lists for the compute capability.
int MaxSharedBytes(const emulation::Device& device) {
  if (device.major < 8) return 64 * 1024;
  if (device.major == 8 && device.minor == 0) return 163 * 1024;
  if (device.major == 8 || device.major >= 12) return 99 * 1024;
  return 227 * 1024;
}

emulation::Device DeviceFromEnvironment() {
  emulation::Device device;
  if (const char* capability = std::getenv("DCNV2_EMULATED_CAPABILITY")) {
    if (std::sscanf(capability, "%d.%d", &device.major, &device.minor) != 2) {
      std::fprintf(stderr, "DCNV2_EMULATED_CAPABILITY should be like 8.0. Received: %s\n", capability);
      std::abort();
    }
  }
  if (const char* count = std::getenv("DCNV2_EMULATED_MULTIPROCESSORS")) device.multiprocessors = std::atoi(count);
  if (const char* seed = std::getenv("DCNV2_EMULATED_SEED")) device.seed = std::strtoull(seed, nullptr, 10);
  return device;
}

// How many blocks of a row are in a cluster.
unsigned ClusterOf(const cudaLaunchConfig_t& config) {
  unsigned cluster = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) cluster = config.attrs[i].val.clusterDim.x;
  }
  return cluster;
}

cudaError_t CheckLaunch(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) return cudaErrorInvalidConfiguration;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaErrorInvalidConfiguration;
  if (grid.x > 0x7fffffffu || grid.y > 0xffff || grid.z > 0xffff) return cudaErrorInvalidConfiguration;
  const auto found = shared_bytes_of_kernel.find(kernel);
  const size_t limit = found == shared_bytes_of_kernel.end() ? kDefaultSharedBytes : found->second;
  if (config.dynamicSmemBytes > std::max<size_t>(limit, kDefaultSharedBytes)) return cudaErrorInvalidValue;
  return cudaSuccess;
}

}  // namespace

namespace emulation {

Device& CurrentDevice() {
  static Device device = DeviceFromEnvironment();
  return device;
}

cudaError_t Launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& thread) {
  const cudaError_t refused = CheckLaunch(config, kernel);
  if (refused != cudaSuccess) return Remember(refused);
  const dim3 grid = config.gridDim, size = config.blockDim;
  if (size.x * size.y * size.z % kWarpSize != 0) {
    launch_failure = "blocks of kernels in cc/lib consist of whole warps";
    return Remember(cudaErrorLaunchFailure);
  }
  const unsigned cluster = ClusterOf(config);
  if (cluster > 8 || grid.x % cluster != 0 || (cluster > 1 && CurrentDevice().major < 9)) {
    return Remember(cudaErrorInvalidConfiguration);
  }
  Order order(CurrentDevice().seed);
  std::vector<uint64_t> blocks(uint64_t{grid.x} * grid.y * grid.z);
  launches.push_back({blocks.size(), uint64_t{size.x} * size.y * size.z, config.dynamicSmemBytes, 0});
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), order);
  const Work work(config.stream);
  for (const uint64_t block : blocks) {
    if (block % cluster != 0) continue;
    const uint3 index = {static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
                         static_cast<unsigned>(block / grid.x / grid.y)};
    launch_failure = RunBlocks(thread, index, cluster, size, grid, config.dynamicSmemBytes, order);
    if (!launch_failure.empty()) return Remember(cudaErrorLaunchFailure);
  }
  return cudaSuccess;
}

void CountAddition(const void* address) {
  if (!IsShared(address)) ++launches.back().additions;
}

}  // namespace emulation

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorLaunchOutOfResources:
      return "cudaErrorLaunchOutOfResources";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
  }
  return "unknown error";
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? launch_failure.c_str() : cudaGetErrorName(error);
}

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return Remember(cudaErrorInvalidDevice);
  const emulation::Device& emulated = emulation::CurrentDevice();
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = kDefaultSharedBytes;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = emulated.multiprocessors;
      break;
    case cudaDevAttrL2CacheSize:
      *value = 4 << 20;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = emulated.major < 8 ? 1024 : 2048;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = emulated.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = emulated.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = MaxSharedBytes(emulated) + (emulated.major < 8 ? 0 : 1024);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = MaxSharedBytes(emulated);
      break;
    default:
      return Remember(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaMalloc(void** address, size_t bytes) {
  *address = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *address != nullptr || bytes == 0 ? cudaSuccess : Remember(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* address) {
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* address, int value, size_t bytes) {
  return cudaMemsetAsync(address, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
  const Work work(stream);
  if (bytes != 0) std::memset(address, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const Work work(stream);
  if (bytes != 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > MaxSharedBytes(emulation::CurrentDevice())) return Remember(cudaErrorInvalidValue);
  shared_bytes_of_kernel[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

extern "C" __attribute__((visibility("default"))) void emulated_device(int major, int minor, int multiprocessors,
                                                                       uint64_t seed) {
  emulation::CurrentDevice() = {major, minor, multiprocessors, seed};
}

extern "C" __attribute__((visibility("default"))) int64_t emulated_launches(LaunchRecord* records, int64_t capacity) {
  const auto count = static_cast<int64_t>(launches.size());
  std::copy_n(launches.begin(), std::min(count, capacity), records);
  launches.clear();
  return count;
}

extern "C" __attribute__((visibility("default"))) void emulated_observer(Observer chosen) { observer = chosen; }

// --- What the compiler's own checks of kernels report to, instead of the sanitizer's run-time library ---

namespace {

struct SourceLocation {
  const char* file;
  uint32_t line, column;
};

struct TypeMismatch {
  SourceLocation location;
  const void* type;
  unsigned char log_alignment, kind;
};

}  // namespace

extern "C" {

__attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(TypeMismatch* found, uintptr_t address) {
  emulation::Fail("%s:%u:%u: access to %#zx, which is not aligned to %d bytes or null", found->location.file,
                  found->location.line, found->location.column, static_cast<size_t>(address),
                  1 << found->log_alignment);
}

__attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds(SourceLocation* found, uintptr_t index) {
  emulation::Fail("%s:%u:%u: index %td is outside of its array", found->file, found->line, found->column,
                  static_cast<ptrdiff_t>(index));
}

__attribute__((visibility("hidden"))) void __assert_fail(const char* condition, const char* file, unsigned line,
                                                         const char*) noexcept {
  emulation::Fail("%s:%u: assertion failed: %s", file, line, condition);
}

}  // extern "C"
