// Launching kernels, and what the choice between them depends on.
#ifndef DCNV2_CC_LIB_GPU_COMMON_LAUNCH_H_
#define DCNV2_CC_LIB_GPU_COMMON_LAUNCH_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace dcnv2 {

struct GpuDevice {
  int capability;  // 10 * major + minor
  int multiprocessors;
  int shared_memory_per_block;  // bytes, for kernels that ask for more than the usual 48 KB
  int shared_memory_per_multiprocessor;
};

// The device that the calling thread uses.
inline cudaError_t DescribeGpu(GpuDevice* description) {
  int device, major, minor;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  const struct {
    int* value;
    cudaDeviceAttr attribute;
  } queries[] = {{&major, cudaDevAttrComputeCapabilityMajor},
                 {&minor, cudaDevAttrComputeCapabilityMinor},
                 {&description->multiprocessors, cudaDevAttrMultiProcessorCount},
                 {&description->shared_memory_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin},
                 {&description->shared_memory_per_multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor}};
  for (const auto& query : queries) {
    if (const cudaError_t error = cudaDeviceGetAttribute(query.value, query.attribute, device)) return error;
  }
  description->capability = 10 * major + minor;
  return cudaSuccess;
}

// Vectors of `bytes` can only be read and written where memory is aligned to them.
inline bool IsAligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// `kernel` gets its parameters in exactly their types. No blocks are no launch, too many are an error.
template <typename... Parameters>
cudaError_t LaunchKernel(void (*kernel)(Parameters...), int64_t blocks, int threads, int shared_bytes,
                         cudaStream_t stream, Parameters... parameters) {
  if (blocks == 0) return cudaSuccess;
  if (blocks > std::numeric_limits<int32_t>::max()) return cudaErrorInvalidConfiguration;
  constexpr int kBytesWithoutAsking = 48 * 1024;
  if (shared_bytes > kBytesWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, parameters...);
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COMMON_LAUNCH_H_
