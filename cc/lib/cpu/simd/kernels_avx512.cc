// Inner loops for x86-64 processors with AVX512; compiled with the flags that allow these instructions.
#if defined(__x86_64__)
#define DCNV2_SIMD_NAMESPACE simd_avx512
#define DCNV2_SIMD_NAME "avx512"
#define DCNV2_VECTOR_BYTES 64
#define DCNV2_GEMM_ROWS 14
#include "cc/lib/cpu/simd/kernels-inl.h"
#endif
