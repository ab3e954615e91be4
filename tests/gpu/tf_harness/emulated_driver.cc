// Stands in for libcuda.so.1, the driver, so that TensorFlow makes its own GPU device where there is none.
//
// It has what TensorFlow 2.20's executor, streams, events, allocators and copies ask for, and nothing for kernels:
// those of the ops run on the emulated device of tests/gpu/emulation. All work is done at once, in the calling thread.
//
// Memory of the device is out of the host's reach, as it is on a GPU: a program that follows an address of the device
// ends by a segmentation fault. emulated_memory_access(1) opens it for the emulated device, emulated_memory_access(0)
// closes it again.
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace {

// CUresult, with CUDA's numbers.
enum Result : int { kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2 };

// Handles of contexts, streams and events only need to differ.
struct Handle {
  char unused;
};

Handle context;
thread_local Handle* current_context = nullptr;

std::mutex memory_lock;
std::map<uintptr_t, size_t> allocations;  // address to bytes
int openings = 0;

constexpr size_t kTotalBytes = size_t{4} << 30;

Result SetAccess(int protection) {
  for (const auto& [address, bytes] : allocations) {
    if (mprotect(reinterpret_cast<void*>(address), bytes, protection) != 0) return kInvalidValue;
  }
  return kSuccess;
}

Result Access(bool opens) {
  const std::lock_guard<std::mutex> lock(memory_lock);
  if (opens) return openings++ == 0 ? SetAccess(PROT_READ | PROT_WRITE) : kSuccess;
  return --openings == 0 ? SetAccess(PROT_NONE) : kSuccess;
}

// What the device itself does to its memory.
template <typename Work>
Result OnDevice(const Work& work) {
  if (const Result refused = Access(true)) return refused;
  work();
  return Access(false);
}

Result Copy(void* to, const void* from, size_t bytes) {
  return OnDevice([&] { std::memcpy(to, from, bytes); });
}

void* Address(uint64_t device_pointer) { return reinterpret_cast<void*>(device_pointer); }

Result MakeHandle(Handle** handle) {
  *handle = new Handle;
  return kSuccess;
}

Result DeleteHandle(Handle* handle) {
  delete handle;
  return kSuccess;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int emulated_memory_access(int opens) { return Access(opens != 0); }

int cuInit(unsigned) { return kSuccess; }
int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
int cuGetErrorName(int, const char** name) {
  *name = "an error of the emulated driver";
  return kSuccess;
}
int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }

int cuDeviceGetCount(int* count) {
  *count = 1;
  return kSuccess;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return kSuccess;
}
int cuDeviceGetName(char* name, int size, int) {
  std::snprintf(name, size, "emulated device");
  return kSuccess;
}
int cuDeviceGetPCIBusId(char* id, int size, int) {
  std::snprintf(id, size, "0000:00:00.0");
  return kSuccess;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = kTotalBytes;
  return kSuccess;
}
// TensorFlow looks at the compute capability; the rest only fills its description of the device.
int cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;
  *value = attribute == kCapabilityMajor ? 9 : attribute == kCapabilityMinor ? 0 : 1024;
  return kSuccess;
}

int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  *flags = 0;
  *active = 0;
  return kSuccess;
}
int cuDevicePrimaryCtxRetain(Handle** retained, int) {
  *retained = &context;
  return kSuccess;
}
int cuDevicePrimaryCtxRelease_v2(int) { return kSuccess; }
int cuCtxGetCurrent(Handle** current) {
  *current = current_context;
  return kSuccess;
}
int cuCtxSetCurrent(Handle* chosen) {
  current_context = chosen;
  return kSuccess;
}
int cuCtxGetDevice(int* device) {
  *device = 0;
  return kSuccess;
}
int cuCtxSynchronize() { return kSuccess; }
int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return kSuccess;
}

int cuStreamCreate(Handle** stream, unsigned) { return MakeHandle(stream); }
int cuStreamCreateWithPriority(Handle** stream, unsigned, int) { return MakeHandle(stream); }
int cuStreamDestroy_v2(Handle* stream) { return DeleteHandle(stream); }
int cuStreamSynchronize(Handle*) { return kSuccess; }
int cuStreamQuery(Handle*) { return kSuccess; }
int cuStreamWaitEvent(Handle*, Handle*, unsigned) { return kSuccess; }
int cuLaunchHostFunc(Handle*, void (*function)(void*), void* data) {
  function(data);
  return kSuccess;
}

int cuEventCreate(Handle** event, unsigned) { return MakeHandle(event); }
int cuEventDestroy_v2(Handle* event) { return DeleteHandle(event); }
int cuEventRecord(Handle*, Handle*) { return kSuccess; }
int cuEventQuery(Handle*) { return kSuccess; }
int cuEventSynchronize(Handle*) { return kSuccess; }

int cuMemGetInfo_v2(size_t* free, size_t* total) {
  *free = *total = kTotalBytes;
  return kSuccess;
}
int cuMemAlloc_v2(uint64_t* pointer, size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return kOutOfMemory;
  *pointer = reinterpret_cast<uint64_t>(address);
  const std::lock_guard<std::mutex> lock(memory_lock);
  allocations[*pointer] = bytes;
  return kSuccess;
}
int cuMemFree_v2(uint64_t pointer) {
  const std::lock_guard<std::mutex> lock(memory_lock);
  const auto found = allocations.find(pointer);
  if (found == allocations.end()) return kInvalidValue;
  munmap(Address(pointer), found->second);
  allocations.erase(found);
  return kSuccess;
}
int cuMemHostAlloc(void** address, size_t bytes, unsigned) {
  constexpr size_t kAlignment = 256;
  *address = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  return *address == nullptr ? kOutOfMemory : kSuccess;
}
int cuMemFreeHost(void* address) {
  std::free(address);
  return kSuccess;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Handle*) {
  return Copy(Address(to), from, bytes);
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Handle*) { return Copy(to, Address(from), bytes); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Handle*) {
  return Copy(Address(to), Address(from), bytes);
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t count, Handle*) {
  return OnDevice([&] { std::memset(Address(to), value, count); });
}
int cuMemsetD32Async(uint64_t to, unsigned value, size_t count, Handle*) {
  return OnDevice([&] {
    for (size_t i = 0; i < count; ++i) static_cast<unsigned*>(Address(to))[i] = value;
  });
}

}  // extern "C"
#pragma GCC visibility pop
