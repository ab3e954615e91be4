// Neighbouring channels of a tensor in one memory access, and their arithmetic type.
#ifndef DCNV2_CC_LIB_GPU_COMMON_VECTOR_CUH_
#define DCNV2_CC_LIB_GPU_COMMON_VECTOR_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cc/lib/gpu/common/ptx.cuh"
#include "cc/lib/storage.h"

namespace dcnv2 {

template <int kBytes>
struct VectorWords;
template <>
struct VectorWords<2> {
  using type = unsigned short;
};
template <>
struct VectorWords<4> {
  using type = unsigned int;
};
template <>
struct VectorWords<8> {
  using type = uint2;
};
template <>
struct VectorWords<16> {
  using type = uint4;
};

// kSize neighbours, 16 bytes unless told otherwise, as they are stored: registers hold them unwidened while they are on
// their way. Memory is aligned to the vector's size.
template <typename S, int kSize = 16 / sizeof(S)>
class Vector {
 public:
  using T = Compute<S>;
  using Words = typename VectorWords<kSize * sizeof(S)>::type;

  Vector() = default;

  // From memory that no thread of the kernel writes.
  static __device__ __forceinline__ Vector Load(const S* from) {
    return Vector{__ldg(reinterpret_cast<const Words*>(from))};
  }
  // From memory that the calling thread may have written.
  static __device__ __forceinline__ Vector LoadWritten(const S* from) {
    return Vector{*reinterpret_cast<const Words*>(from)};
  }
  __device__ __forceinline__ T operator[](int i) const {
    if constexpr (std::is_same_v<S, BFloat16> && kSize > 1) {
      // One instruction each; taking 16 bits out first would be one more.
      uint32_t pairs[kSize / 2];
      __builtin_memcpy(pairs, &words_, sizeof(words_));
      return FloatOf(i % 2 == 0 ? pairs[i / 2] << 16 : pairs[i / 2] & 0xffff0000u);
    }
    S elements[kSize];
    __builtin_memcpy(elements, &words_, sizeof(words_));
    if constexpr (std::is_same_v<S, Half>) {
      return ptx::WidenHalf(elements[i].bits);
    } else {
      return Widen(elements[i]);
    }
  }

  static __device__ __forceinline__ void Store(const T (&values)[kSize], S* to) {
    Words words;
    if constexpr (std::is_same_v<S, T>) {
      __builtin_memcpy(&words, values, sizeof(words));
    } else {
      uint32_t pairs[(kSize + 1) / 2];
#pragma unroll
      for (int i = 0; i < kSize; i += 2) pairs[i / 2] = NarrowPair(values[i], i + 1 < kSize ? values[i + 1] : 0.0f);
      __builtin_memcpy(&words, pairs, sizeof(words));
    }
    *reinterpret_cast<Words*>(to) = words;
  }

 private:
  explicit __device__ __forceinline__ Vector(const Words& words) : words_(words) {}

  static __device__ __forceinline__ uint32_t NarrowPair(float low, float high) {
    if constexpr (std::is_same_v<S, Half>) {
      return ptx::NarrowToHalf2(low, high);
    } else {
      return ptx::NarrowToBFloat162(low, high);
    }
  }

  Words words_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COMMON_VECTOR_CUH_
