// Stands in for CUDA's header of this name where kernels run on the emulated device: the language extensions and
// functions that cc/lib's kernels use, compiled as plain C++.
#ifndef DCNV2_TESTS_GPU_EMULATION_CUDA_RUNTIME_H_
#define DCNV2_TESTS_GPU_EMULATION_CUDA_RUNTIME_H_

#include <math.h>

#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "cuda_runtime_api.h"
#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __shared__
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict

// Kernels declare `extern __shared__ __align__(16) unsigned char shared_memory[]`, which names another variable in
// every namespace. All are this one array.
extern unsigned char shared_memory[] __asm__("dcnv2_emulated_shared_memory");
namespace dcnv2 {
extern unsigned char shared_memory[] __asm__("dcnv2_emulated_shared_memory");
namespace {
extern unsigned char shared_memory[] __asm__("dcnv2_emulated_shared_memory");
}  // namespace
namespace hopper {
extern unsigned char shared_memory[] __asm__("dcnv2_emulated_shared_memory");
}
}  // namespace dcnv2

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernels get their parameters as bytes");
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "parameters beyond 4 KB need devices newer than all of ours");
  const std::tuple<Parameters...> parameters(static_cast<Arguments&&>(arguments)...);
  return emulation::Launch(*config, reinterpret_cast<const void*>(kernel), [&] { std::apply(kernel, parameters); });
}

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

// Kernels are compiled for the emulated device, whatever it is.
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  attributes->ptxVersion = 10 * emulation::CurrentDevice().major + emulation::CurrentDevice().minor;
  return cudaSuccess;
}

// --- Barriers and exchanges ---

inline void __syncthreads() { emulation::SynchronizeBlock(); }

inline int __syncthreads_or(int predicate) {
  static int votes = 0;
  if (predicate != 0) __atomic_store_n(&votes, 1, __ATOMIC_RELAXED);
  __syncthreads();
  const int any = __atomic_load_n(&votes, __ATOMIC_RELAXED);
  __syncthreads();
  __atomic_store_n(&votes, 0, __ATOMIC_RELAXED);
  __syncthreads();
  return any;
}

inline void RequireFullWarp(unsigned mask) {
  if (mask != 0xffffffffu) emulation::Fail("a warp's collective has the mask %08x; all lanes must take part", mask);
}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  RequireFullWarp(mask);
  emulation::Exchange(emulation::Collective::kSynchronize, nullptr, 0);
}

template <typename T>
T ExchangeShuffled(unsigned mask, T value, int source) {
  static_assert(std::is_arithmetic_v<T>, "only numbers can be shuffled");
  RequireFullWarp(mask);
  const unsigned char* posts = emulation::Exchange(emulation::Collective::kShuffle, &value, sizeof(value));
  std::memcpy(&value, posts + source * emulation::kPostBytes, sizeof(value));
  return value;
}

// Lanes form segments of `width`; a source outside the segment is the lane itself.
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = emulation::kWarpSize) {
  const int first = emulation::Lane() / width * width;
  return ExchangeShuffled(mask, value, first + (lane & (width - 1)));
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = emulation::kWarpSize) {
  const int self = emulation::Lane();
  const int source = self ^ lanes;
  return ExchangeShuffled(mask, value, source < self / width * width + width ? source : self);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = emulation::kWarpSize) {
  const int self = emulation::Lane();
  const int source = self + static_cast<int>(distance);
  return ExchangeShuffled(mask, value, source < self / width * width + width ? source : self);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = emulation::kWarpSize) {
  const int self = emulation::Lane();
  const int source = self - static_cast<int>(distance);
  return ExchangeShuffled(mask, value, source >= self / width * width ? source : self);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  RequireFullWarp(mask);
  const unsigned char vote = predicate != 0;
  const unsigned char* posts = emulation::Exchange(emulation::Collective::kVote, &vote, 1);
  unsigned votes = 0;
  for (int lane = 0; lane < emulation::kWarpSize; ++lane)
    votes |= unsigned{posts[lane * emulation::kPostBytes]} << lane;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == 0xffffffffu; }

[[noreturn]] inline void __trap() { emulation::Fail("trap"); }

// --- Memory ---

template <typename T>
T __ldg(const T* address) {
  return *address;
}

template <typename T>
std::enable_if_t<std::is_arithmetic_v<T>, T> atomicAdd(T* address, std::common_type_t<T> value) {
  if constexpr (std::is_floating_point_v<T>) emulation::CountAddition(address);
  // Atomic for the thread sanitizer: such additions are no races among themselves.
  T sum;
  __atomic_load(address, &sum, __ATOMIC_RELAXED);
  const T old = sum;
  sum += value;
  __atomic_store(address, &sum, __ATOMIC_RELAXED);
  return old;
}

// --- Arithmetic ---

template <typename A, typename B>
std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return fmin(T(a), T(b));
  return T(b) < T(a) ? T(b) : T(a);
}

template <typename A, typename B>
std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return fmax(T(a), T(b));
  return T(a) < T(b) ? T(b) : T(a);
}

template <typename To, typename From>
To SameBits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline unsigned __float_as_uint(float value) { return SameBits<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return SameBits<float>(bits); }
inline int __float_as_int(float value) { return SameBits<int>(value); }
inline float __int_as_float(int bits) { return SameBits<float>(bits); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

#endif  // DCNV2_TESTS_GPU_EMULATION_CUDA_RUNTIME_H_
