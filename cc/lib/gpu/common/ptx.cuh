// The machine instructions that CUDA C++ has no plain function for, one function each, without any policy.
//
// "Collective" functions are called by all 32 lanes of a warp together. Their fragments are those of the PTX manual:
// lane l holds, with g = l / 4 and t = l % 4, of a 16 x 8 sum the elements (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8,
// 2t + 1).
#ifndef DCNV2_CC_LIB_GPU_COMMON_PTX_CUH_
#define DCNV2_CC_LIB_GPU_COMMON_PTX_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/lib/storage.h"

namespace dcnv2 {
namespace ptx {

// Collective. sum (16 x 8) += a (16 x 16) b (16 x 8). Registers hold two neighbours along the common axis k: of a the
// rows g, g + 8, g, g + 8 at k = 2t, 2t, 2t + 8, 2t + 8; of b the column g at k = 2t and 2t + 8.
__device__ __forceinline__ void MultiplyHalf(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  // Turing multiplies half as deep: first k < 8, then the rest.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
#endif
}

// Collective. As MultiplyHalf. From compute capability 8.0.
__device__ __forceinline__ void MultiplyBFloat16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

// Collective. sum (16 x 8) += a (16 x 8) b (8 x 8), of which the bits beyond TF32's are ignored. Of a the rows g, g +
// 8, g, g + 8 at k = t, t, t + 4, t + 4; of b the column g at k = t and t + 4. From compute capability 8.0.
__device__ __forceinline__ void MultiplyTf32(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

// The bits of a float32 whose last 13 are zero. Ties are rounded to the even one of two from compute capability 9.0 on,
// where that is one instruction, and away from zero before. From compute capability 8.0.
__device__ __forceinline__ uint32_t RoundToTf32(float value) {
  uint32_t bits;
#if __CUDA_ARCH__ >= 900
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
#elif __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
#else
  bits = BitsOf(value);
  __trap();
#endif
  return bits;
}

// Collective. Loads four matrices of 8 x 8 numbers of 16 bits; lanes 8i .. 8i + 7 point to the rows of matrix i, 16
// bytes each and aligned so. fragments[i] holds the elements (g, 2t) and (g, 2t + 1) of matrix i.
__device__ __forceinline__ void LoadMatrices(uint32_t (&fragments)[4], const void* shared_row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3])
               : "r"(address));
}

// Collective. The same for the transposed matrices: fragments[i] holds the elements (2t, g) and (2t + 1, g) of matrix
// i.
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&fragments)[4], const void* shared_row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3])
               : "r"(address));
}

// Starts copying 16 aligned bytes from global to shared memory; zeros where !valid, and then `global` is not read. The
// copy has arrived for the calling thread after CopyAsyncWait, for the others after a barrier that follows it.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(__cvta_generic_to_global(global)),
               "r"(valid ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(shared) = valid ? __ldg(static_cast<const uint4*>(global)) : make_uint4(0, 0, 0, 0);
#endif
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void CopyAsyncCommit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most the kPending youngest groups are under way.
template <int kPending>
__device__ __forceinline__ void CopyAsyncWait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// Adds to four neighbours in global memory, aligned to 16 bytes; each of the four additions is atomic.
__device__ __forceinline__ void AtomicAdd4(float* address, float4 value) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(address)),
               "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
               : "memory");
#else
  atomicAdd(address, value.x);
  atomicAdd(address + 1, value.y);
  atomicAdd(address + 2, value.z);
  atomicAdd(address + 3, value.w);
#endif
}

__device__ __forceinline__ float WidenHalf(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// The nearest numbers of 16 bits, of two the even one; `low` in the lower half.
__device__ __forceinline__ uint32_t NarrowToHalf2(float low, float high) {
  uint32_t bits;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
#else
  uint16_t halves[2];
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(halves[0]) : "f"(low));
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(halves[1]) : "f"(high));
  bits = halves[0] | uint32_t{halves[1]} << 16;
#endif
  return bits;
}

__device__ __forceinline__ uint32_t NarrowToBFloat162(float low, float high) {
#if __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return Narrow<BFloat16>(low).bits | uint32_t{Narrow<BFloat16>(high).bits} << 16;
#endif
}

}  // namespace ptx
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COMMON_PTX_CUH_
