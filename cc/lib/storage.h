// The types tensors are stored in, and the type their arithmetic is done in: 16-bit numbers are for storage only.
#ifndef DCNV2_CC_LIB_STORAGE_H_
#define DCNV2_CC_LIB_STORAGE_H_

#include <cstdint>

#include "cc/lib/host_device.h"

namespace dcnv2 {

// The upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

// IEEE 754 binary16.
struct Half {
  uint16_t bits;
};

template <typename S>
struct ComputeType {
  using type = S;
};
template <>
struct ComputeType<BFloat16> {
  using type = float;
};
template <>
struct ComputeType<Half> {
  using type = float;
};

// Type of coordinates, modulations, scratch memory and sums for tensors that are stored as S.
template <typename S>
using Compute = typename ComputeType<S>::type;

// Statements that instantiate a template for every type that tensors are stored in.
#define DCNV2_FOR_EACH_STORAGE_TYPE(INSTANTIATE) \
  INSTANTIATE(float);                            \
  INSTANTIATE(double);                           \
  INSTANTIATE(BFloat16);                         \
  INSTANTIATE(Half);

DCNV2_INLINE uint32_t BitsOf(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

DCNV2_INLINE float FloatOf(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

DCNV2_INLINE float Widen(float value) { return value; }
DCNV2_INLINE double Widen(double value) { return value; }
DCNV2_INLINE float Widen(BFloat16 value) { return FloatOf(uint32_t{value.bits} << 16); }
DCNV2_INLINE float Widen(Half value) {
  constexpr uint32_t kExponentShift = (127 - 15) << 23;  // from the bias of one format to that of the other
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  // Subnormal numbers count units of 2^-24.
  if (magnitude < 0x0400) return FloatOf(sign | BitsOf(static_cast<float>(magnitude) * 0x1p-24f));
  const uint32_t finite = (magnitude << 13) + kExponentShift;
  return FloatOf(sign | (magnitude < 0x7c00 ? finite : finite + kExponentShift));
}

// Rounds to the nearest number of the type, to the even one of two; NaN stays NaN.
template <typename S>
DCNV2_INLINE S Narrow(Compute<S> value);
template <>
DCNV2_INLINE float Narrow<float>(float value) {
  return value;
}
template <>
DCNV2_INLINE double Narrow<double>(double value) {
  return value;
}
template <>
DCNV2_INLINE BFloat16 Narrow<BFloat16>(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return {static_cast<uint16_t>(value == value ? rounded : bits >> 16 | 0x40)};
}
template <>
DCNV2_INLINE Half Narrow<Half>(float value) {
  constexpr uint32_t kInfinity = 0x7f800000;
  constexpr uint32_t kOverflow = 0x477ff000;  // 65520, halfway from the largest finite number to the next
  constexpr uint32_t kSmallestNormal = 0x38800000;
  const uint32_t sign = BitsOf(value) >> 16 & 0x8000;
  const uint32_t magnitude = BitsOf(value) & 0x7fffffff;
  uint32_t bits;
  if (magnitude >= kOverflow) {
    bits = magnitude > kInfinity ? 0x7e00 : 0x7c00;
  } else if (magnitude < kSmallestNormal) {
    // Next to 0.5 floats are 2^-24 apart, like subnormal numbers of this format: the addition rounds.
    bits = BitsOf(FloatOf(magnitude) + 0.5f) - BitsOf(0.5f);
  } else {
    bits = (magnitude - ((127 - 15) << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  return {static_cast<uint16_t>(sign | bits)};
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_STORAGE_H_
