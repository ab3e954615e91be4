// Inner loops for x86-64 processors with AVX2; compiled with the flags that allow these instructions.
#if defined(__x86_64__)
#define DCNV2_SIMD_NAMESPACE simd_avx2
#define DCNV2_SIMD_NAME "avx2"
#define DCNV2_VECTOR_BYTES 32
#define DCNV2_GEMM_ROWS 6
#include "cc/lib/cpu/simd/kernels-inl.h"
#endif
