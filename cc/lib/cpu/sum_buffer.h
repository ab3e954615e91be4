// Where the sums for a tensor are formed: in the tensor itself, or in wider scratch memory if it is of a 16-bit type.
#ifndef DCNV2_CC_LIB_CPU_SUM_BUFFER_H_
#define DCNV2_CC_LIB_CPU_SUM_BUFFER_H_

#include <type_traits>

#include "cc/lib/cpu/aligned_buffer.h"
#include "cc/lib/cpu/parallel.h"
#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/storage.h"

namespace dcnv2 {

// Uninitialised, like the tensor. Throws std::bad_alloc.
template <typename S>
class SumBuffer {
 public:
  SumBuffer(S* tensor, int64_t size) : tensor_(tensor), size_(size), wide_(kInPlace ? 0 : size) {}

  Compute<S>* data() {
    if constexpr (kInPlace) {
      return tensor_;
    } else {
      return wide_.data();
    }
  }

  // Brings the finished sums into the tensor.
  void Finish(const ParallelFor& parallel_for) {
    if constexpr (!kInPlace) {
      parallel_for(size_, 1, [this](int64_t begin, int64_t end) {
        BestSimdKernels<S>().narrow(wide_.data() + begin, end - begin, tensor_ + begin);
      });
    }
  }

 private:
  static constexpr bool kInPlace = std::is_same_v<S, Compute<S>>;

  S* const tensor_;
  const int64_t size_;
  AlignedBuffer<Compute<S>> wide_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SUM_BUFFER_H_
