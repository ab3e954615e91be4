// The qualifier of functions that are compiled for host and device, and for several instruction sets of the host.
#ifndef DCNV2_CC_LIB_HOST_DEVICE_H_
#define DCNV2_CC_LIB_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define DCNV2_INLINE __host__ __device__ __forceinline__
#else
// Always inlined: these headers are compiled into files with different instruction sets, and an out-of-line copy from
// one of them must never be linked into the others.
#define DCNV2_INLINE inline __attribute__((always_inline))
#endif

#endif  // DCNV2_CC_LIB_HOST_DEVICE_H_
