// Instructions of compute capability 9.0 alone, one function each, without any policy: asynchronous copies and
// products, and the barriers that tell when they are done.
//
// They exist where DCNV2_HOPPER_CODE is defined: in machine code for 9.0 with its own instructions (sm_90a). Addresses
// are those of the shared window, as SharedAddress returns them.
#ifndef DCNV2_CC_LIB_GPU_COMMON_PTX_HOPPER_CUH_
#define DCNV2_CC_LIB_GPU_COMMON_PTX_HOPPER_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cc/lib/storage.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DCNV2_HOPPER_CODE
#endif

namespace dcnv2 {
namespace ptx {

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Barriers in shared memory, 8 bytes each. A phase is over when as many arrivals as the barrier counts and all bytes
// that it expects have come.
__device__ __forceinline__ void InitBarrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes what InitBarrier did visible to other blocks of the cluster and to asynchronous copies.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void ArriveAtBarrier(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void ArriveAndExpectBytes(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Waits for the end of the phase with this parity. The parity of a barrier's first phase is 0; the one before that is
// over.
__device__ __forceinline__ void WaitForBarrier(uint32_t barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// What the calling thread wrote to shared memory becomes visible to asynchronous products and copies, once a barrier
// has ordered them after it.
__device__ __forceinline__ void FenceForAsync() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Starts copying `bytes`, a multiple of 16, from global memory, and announces them at the barrier when they are there.
__device__ __forceinline__ void CopyBulk(uint32_t shared, const void* global, int bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared),
               "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ int ClusterRank() {
  uint32_t rank = 0;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

// Waits for all threads of the cluster; what they wrote to shared memory before is visible after.
__device__ __forceinline__ void SynchronizeCluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// Writes to the same address of another block of the cluster.
__device__ __forceinline__ void StoreToBlock(int rank, uint32_t address, float4 value) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "st.shared::cluster.v4.f32 [remote], {%2, %3, %4, %5};\n"
      "}\n" ::"r"(address),
      "r"(rank), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
      : "memory");
}

// Of all warps of a warpgroup. What the registers of each thread are limited to from here on.
template <int kRegisters>
__device__ __forceinline__ void GrowRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void ShrinkRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Waits for the kernel before this one in the stream, where this one was launched to begin while that one ends.
__device__ __forceinline__ void WaitForEarlierKernel() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void LetLaterKernelBegin() { asm volatile("griddepcontrol.launch_dependents;"); }

// Waits until `threads` threads of the block have come to the barrier of this number, 1 to 15.
__device__ __forceinline__ void SynchronizeThreads(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Products of a warpgroup, which all its threads start together: sums (64 x columns) += a b, with a (64 rows) and b
// (columns) in shared memory, 32 bytes of each along the common axis. Products are added in the order they were started
// in. Registers hold, with g = lane / 4 and t = lane % 4, of every 8 columns the sums (g, 2t), (g, 2t + 1), (g + 8,
// 2t), (g + 8, 2t + 1) of the 16 rows of the thread's warp.
//
// A matrix is a stack of rows of 128 bytes, of which the 16 byte vector v of row r lies where v ^ r % 8 would be; it
// starts at a multiple of 1024 bytes. Its descriptor has in units of 16 bytes the address and, from bit 32 on, the
// distance of 8 rows, and in its two highest bits the number of this arrangement.
__device__ __forceinline__ uint64_t SwizzledMatrix(uint32_t address) {
  return uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 16 | (address & 0x3ffff) >> 4;
}
// The k-th 32 bytes of the rows of that matrix.
__device__ __forceinline__ uint64_t StepOfMatrix(uint64_t matrix, int k) { return matrix + k * (32 >> 4); }

// Before the first product, and wherever registers of sums were touched.
__device__ __forceinline__ void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Ends a group of products.
__device__ __forceinline__ void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most the kPending youngest groups are under way.
template <int kPending>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// The operands of a product: its sums, and their numbers in the instruction.
#define DCNV2_SUMS_8(sums, i)                                                                                   \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]), \
      "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define DCNV2_SUMS_64(sums, i)                                                                              \
  DCNV2_SUMS_8(sums, i), DCNV2_SUMS_8(sums, i + 8), DCNV2_SUMS_8(sums, i + 16), DCNV2_SUMS_8(sums, i + 24), \
      DCNV2_SUMS_8(sums, i + 32), DCNV2_SUMS_8(sums, i + 40), DCNV2_SUMS_8(sums, i + 48), DCNV2_SUMS_8(sums, i + 56)
#define DCNV2_NUMBERS_64                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DCNV2_NUMBERS_128                                                                        \
  DCNV2_NUMBERS_64                                                                               \
  ", "                                                                                           \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// `left`, `right` and `adding` are the numbers of the operands after the sums.
#define DCNV2_PRODUCT(columns, type, transposition, numbers, left, right, adding, ...)             \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " adding                                    \
               ", 0;\n"                                                                            \
               "wgmma.mma_async.sync.aligned.m64n" columns type " {" numbers "}, " left ", " right \
               ", adds, 1, 1" transposition ";\n}\n"                                               \
               : __VA_ARGS__                                                                       \
               : "l"(a), "l"(b), "r"(adds))
#define DCNV2_PRODUCT_64(type, transposition) \
  DCNV2_PRODUCT("128", type, transposition, DCNV2_NUMBERS_64, "%64", "%65", "%66", DCNV2_SUMS_64(sums, 0))
#define DCNV2_PRODUCT_128(type, transposition)                                                                 \
  DCNV2_PRODUCT("256", type, transposition, DCNV2_NUMBERS_128, "%128", "%129", "%130", DCNV2_SUMS_64(sums, 0), \
                DCNV2_SUMS_64(sums, 64))

// With `adds` zero the sums are overwritten.
template <typename Element, int kSums>
__device__ __forceinline__ void StartProduct(float (&sums)[kSums], uint64_t a, uint64_t b, int adds) {
  static_assert(kSums == 64 || kSums == 128, "128 or 256 columns");
  if constexpr (kSums == 64) {
    if constexpr (std::is_same_v<Element, float>) {
      DCNV2_PRODUCT_64("k8.f32.tf32.tf32", "");
    } else if constexpr (std::is_same_v<Element, Half>) {
      DCNV2_PRODUCT_64("k16.f32.f16.f16", ", 0, 0");
    } else {
      DCNV2_PRODUCT_64("k16.f32.bf16.bf16", ", 0, 0");
    }
  } else {
    if constexpr (std::is_same_v<Element, float>) {
      DCNV2_PRODUCT_128("k8.f32.tf32.tf32", "");
    } else if constexpr (std::is_same_v<Element, Half>) {
      DCNV2_PRODUCT_128("k16.f32.f16.f16", ", 0, 0");
    } else {
      DCNV2_PRODUCT_128("k16.f32.bf16.bf16", ", 0, 0");
    }
  }
}

#undef DCNV2_PRODUCT_64
#undef DCNV2_PRODUCT_128
#undef DCNV2_PRODUCT
#undef DCNV2_NUMBERS_64
#undef DCNV2_NUMBERS_128
#undef DCNV2_SUMS_8
#undef DCNV2_SUMS_64

}  // namespace ptx
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COMMON_PTX_HOPPER_CUH_
