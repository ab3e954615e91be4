// Rounding of float32 sums to tensors of 16 bits.
#ifndef DCNV2_CC_LIB_GPU_COMMON_NARROW_CUH_
#define DCNV2_CC_LIB_GPU_COMMON_NARROW_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cc/lib/geometry.h"
#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/common/vector.cuh"

namespace dcnv2 {

// The first 4 * quads numbers are aligned for vectors.
template <typename S>
__global__ void NarrowKernel(const float* sums, int64_t quads, int64_t size, S* narrow) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t own = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (int64_t i = own; i < quads; i += step) {
    const auto quad = Vector<float, 4>::Load(sums + 4 * i);
    Vector<S, 4>::Store({quad[0], quad[1], quad[2], quad[3]}, narrow + 4 * i);
  }
  for (int64_t i = 4 * quads + own; i < size; i += step) Vector<S, 1>::Store({sums[i]}, narrow + i);
}

// `sums` is aligned to 16 bytes.
template <typename S>
cudaError_t NarrowSums(const float* sums, int64_t size, S* narrow, cudaStream_t stream) {
  constexpr int kThreads = 256;
  const bool aligned = IsAligned(narrow, 4 * sizeof(S));
  const int64_t blocks = std::min<int64_t>(CeilDiv(size, 4 * kThreads), 1 << 20);
  return LaunchKernel<const float*, int64_t, int64_t, S*>(NarrowKernel<S>, blocks, kThreads, 0, stream, sums,
                                                          aligned ? size / 4 : 0, size, narrow);
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COMMON_NARROW_CUH_
