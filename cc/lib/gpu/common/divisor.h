// Division by numbers that are known before a kernel starts.
#ifndef DCNV2_CC_LIB_GPU_COMMON_DIVISOR_H_
#define DCNV2_CC_LIB_GPU_COMMON_DIVISOR_H_

#include <cstdint>

#include "cc/lib/host_device.h"

namespace dcnv2 {

// Quotients of numbers below 2^31 take a multiplication and a shift, where a division takes some twenty instructions.
class Divisor {
 public:
  // `divisor` is positive. From 2^31 on only quotients of 64-bit numbers can be taken.
  explicit Divisor(int64_t divisor) : divisor_(divisor) {
    if (divisor > 0x7fffffff) return;
    int bits = 0;
    while ((int64_t{1} << bits) < divisor) ++bits;
    // n * multiplier exceeds n * 2^shift / divisor by less than 2^shift / divisor, so that the quotient is exact.
    shift_ = 31 + bits;
    multiplier_ = static_cast<uint32_t>((uint64_t{1} << shift_) / static_cast<uint64_t>(divisor) + 1);
  }

  DCNV2_INLINE uint32_t Quotient(uint32_t n) const {
    return static_cast<uint32_t>(uint64_t{n} * multiplier_ >> shift_);
  }
  DCNV2_INLINE int64_t Quotient(int64_t n) const { return n / divisor_; }

 private:
  int64_t divisor_;
  uint32_t multiplier_ = 0;
  int shift_ = 0;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COMMON_DIVISOR_H_
